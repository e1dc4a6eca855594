package queue

import (
	"sync/atomic"
	"time"
)

// length is what is known of the number of entries in a queue.
type length struct {
	size         atomic.Int64 // when the queue was last read
	mean         float64      // of the last entries, how many others they found
	long         bool         // true if it was long in the mean, see longerThan
	emptied      time.Time    // when the queue was last seen empty; zero if another entry was seen since
	mispredicted bool         // true if the queue was assumed to be empty, and is not
	empties      int          // number of transactions in a row that have found the queue empty
}

// saw notes the number of entries that a look has found.
func (n *length) saw(entries int64) { n.size.Store(entries) }

// found notes the number of other entries that our transaction has found.
func (n *length) found(others int64) {
	n.size.Store(others)
	n.mean += (float64(others) - n.mean) / 4
	if others > 0 {
		n.emptied, n.empties = time.Time{}, 0
		return
	}
	n.emptied, n.empties = time.Now(), n.empties+1
}

// calm is the number of transactions in a row that must find a queue empty before its watch is closed.
// With the watch goes a goroutine, and without it the next entry assumes that the queue is empty.
const calm = 64

// isCalm reports whether the queue needs no watch.
func (n *length) isCalm() bool { return n.empties >= calm }

// mispredict notes that the queue is not empty, though it was assumed to be.
func (n *length) mispredict() {
	n.found(1)
	n.mispredicted = true
}

// wasMispredicted reports, once, whether the last prediction was wrong.
func (n *length) wasMispredicted() (was bool) {
	was, n.mispredicted = n.mispredicted, false
	return was
}

// forget forgets what is known.
func (n *length) forget() {
	n.size.Store(0)
	n.emptied, n.mispredicted, n.empties = time.Time{}, false, 0
	n.mean, n.long = 0, false
}

// longerThan reports whether the queue is longer than limit in the mean. It stays long until the mean has
// fallen by one more, because marked and unmarked entries in turns cost the most.
func (n *length) longerThan(limit int64) bool {
	if n.long {
		limit--
	}
	n.long = n.mean > float64(limit)
	return n.long
}

// recentlyEmpty reports whether the queue was empty less than Resting ago.
func (n *length) recentlyEmpty() bool { return time.Since(n.emptied) < Resting }

// peek is the number of older entries that the entering transaction reads of a queue of unknown
// length. It is small because the read is part of a write, which costs every user of the cluster. The
// entries are read in the order of their keys, because sorting by revision would read the whole queue
// (trap A16). If all older entries are among them, the first look is saved.
//
// If the queue was longer than that the last time, more entries are read, up to mostPeeked. etcd has
// their keys in memory. Of a longer queue nothing is read, because etcd would count all of it.
const (
	peek       = 33
	mostPeeked = 8 * peek
)

// peeking returns the number of entries to read. peek is that for a queue of unknown length.
func (n *length) peeking(peek int64) int64 {
	limit := peek
	for size := n.size.Load(); limit <= size; {
		limit *= 2
	}
	if limit > mostPeeked {
		return 0
	}
	return limit
}

// turns is what a queue knows of its marked entries.
type turns struct {
	last    *Entry        // the last marked entry; nil if there was none
	unheard int           // inboxes in a row that could not be watched
	barred  bool          // true: no entry is marked for a while
	until   time.Time     // how long
	pause   time.Duration // from the beginning of that while to its end
}

// mostUnheard is the number of inboxes in a row that could not be watched, after which no entry is marked for a
// while. An inbox that etcd refuses, and a message, have that effect at once.
const mostUnheard = 3

// What has failed is tried again, because a role may be granted, and a stream come back. Each try costs the
// entry a request, so the pauses are doubled. They begin anew when it has gone well for as long as the last one.
const (
	firstPause   = 10 * time.Second
	longestPause = 10 * time.Minute
)

// bar has no entry marked for a while.
func (t *turns) bar() {
	now := time.Now()
	if now.Sub(t.until) > t.pause {
		t.pause = firstPause
	} else {
		t.pause = min(2*t.pause, longestPause)
	}
	t.barred, t.until = true, now.Add(t.pause)
}

// mayMark reports whether an entry may be marked, or is to be marked as a try.
func (t *turns) mayMark() bool {
	t.barred = t.barred && time.Now().Before(t.until)
	return !t.barred
}

// crowd is the mean length of a queue above which entries are marked. In a shorter one, sessions that watch the
// whole queue are as fast, and need no inbox.
const crowd = 6
