package queue

import "time"

// record is how the last waits of a queue ended. It tells when a mark costs more than it saves. The next
// holder is delayed if the wait of a marked entry is given up: the release of the holder is refused, and that
// entry leaves by two requests. A marked entry that waits for long settles, and then it sends all that others
// send.
type record struct {
	entry   int64         // the CreateRevision of the entry that has begun to wait last
	began   time.Time     // when its wait has begun
	pending bool          // true if that wait was not granted so far
	last    time.Duration // the last wait that was granted
	givenUp int           // grows with a wait that was given up, and falls with a granted one
	known   bool          // true if a wait has ended
	hasty   bool          // true if too many waits are given up
}

// A queue becomes hasty when more than a third of its waits are given up. It stays that for a while, because
// marked and unmarked entries in turns cost the most. Of a session that is new in a storm, the first wait that is
// given up suffices.
const (
	oneGivenUp = 2 // a granted wait counts 1
	atFirst    = hastyFrom - oneGivenUp
	hastyFrom  = 8
	hastyUntil = 2
	mostHasty  = 24
)

// longWait is the length of a wait after which an entry is not marked, with some time left until it would
// settle.
const longWait = settleLast * 2 / 3

// begins notes the wait of an entry. The wait before was given up if it was not granted.
func (r *record) begins(e *Entry) {
	if r.entry == e.CreateRevision {
		return // it is begun again
	}
	if r.pending {
		if !r.known {
			r.known, r.givenUp = true, atFirst
		}
		r.givenUp = min(r.givenUp+oneGivenUp, mostHasty)
		r.hasty = r.hasty || r.givenUp >= hastyFrom
	}
	r.entry, r.began, r.pending = e.CreateRevision, time.Now(), true
}

// granted notes that the wait has ended with a grant.
func (r *record) granted() {
	r.pending, r.known, r.last, r.givenUp = false, true, time.Since(r.began), max(r.givenUp-1, 0)
	r.hasty = r.hasty && r.givenUp > hastyUntil
}

// pays reports whether the next entry is worth a mark.
func (r *record) pays() bool { return !r.hasty && r.last < longWait }
