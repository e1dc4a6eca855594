package queue

import (
	"context"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// kept is what a queue keeps from one call to the next: the watch of the last wait.
type kept struct {
	of     *line
	cache  *rangeCache // nil if there is none
	theirs *follower   // on the predecessor of the last wait in a long queue; nil if there is none
	inbox  *inbox      // nil if no entry is or was marked

	posted atomic.Int64 // the lease under which the key of an inbox may stand; 0 for none; see Withdraw
}

// cacheFor returns the cache of the queue for a wait of an entry, and opens one if there is none.
func (k *kept) cacheFor(e *Entry) *rangeCache {
	r := shortly.seeded(e.Lease)
	if k.cache == nil || !k.cache.serves(e) {
		k.Close()
		k.cache = k.of.newCache(k.of.from, k.of.end, e.plain(), r)
		return k.cache
	}
	k.cache.begin(r)
	return k.cache
}

// openAhead opens a cache before the entry is written. The transaction that enters reads what the cache
// is to show.
func (k *kept) openAhead(ctx context.Context, w Want) {
	if k.cache != nil || w.Rule != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, aheadTimeout)
	defer cancel()
	c := k.of.newCache(k.of.from, k.of.end, !w.Candidate && !w.Keeps, waiting)
	if !c.openEarly(ctx) {
		return
	}
	k.closeTheirs()
	k.cache = c
}

// needsValues reports whether the transaction that enters is to read values for a cache.
func (k *kept) needsValues() bool { return k.cache != nil && k.cache.early && !k.cache.deletesOnly }

// closeEarly closes a cache that was opened before an entry which was not written.
func (k *kept) closeEarly() {
	if k.cache != nil && k.cache.early {
		k.closeCache()
	}
}

// openInbox makes the inbox ready for an entry. It is nil afterwards if that cannot be done soon.
func (k *kept) openInbox(ctx context.Context, lease clientv3.LeaseID) {
	k.closeCache()
	if k.inbox != nil {
		k.inbox.empty()
		if k.inbox.watch != nil && k.inbox.lease == lease {
			return
		}
		k.closeInbox()
	}
	k.inbox = k.of.newInbox(ctx, lease, &k.posted)
}

func (k *kept) closeInbox() {
	if k.inbox != nil {
		k.inbox.close()
		k.inbox = nil
	}
}

// rebase makes a cache that receives deletions only, or was opened early, show what the transaction
// that entered has read: all entries that were there before.
func (k *kept) rebase(older []*mvccpb.KeyValue, own *Entry, value string) {
	if c := k.cache; c != nil && (c.deletesOnly || c.early) {
		c.snapshot = newSnapshot(c.from, own.CreateRevision, older...)
		c.entries[own.Key] = own.kv(value)
		c.keysOnly, c.early = c.deletesOnly, false
	}
}

// closeStale closes a cache that receives deletions only, or was opened early, if the transaction
// that entered has not read the older entries.
func (k *kept) closeStale() {
	if k.cache != nil && (k.cache.deletesOnly || k.cache.early) {
		k.closeCache()
	}
}

func (k *kept) closeCache() {
	if k.cache != nil {
		k.cache.close()
		k.cache = nil
	}
}

// takeTheirs returns the watch that an earlier wait has kept, or one that is not open.
func (k *kept) takeTheirs(e *Entry) *follower {
	f := k.theirs
	if f == nil || e.rule != nil {
		own := newFollower(waiting, 0, nil)
		return &own
	}
	k.theirs = nil
	return f
}

// keepTheirs keeps a watch for the next wait, unless it is late.
func (k *kept) keepTheirs(e *Entry, f *follower) {
	if f.watch == nil || f.late || e.rule != nil {
		f.close()
		return
	}
	k.closeTheirs()
	f.timer.Stop()
	k.theirs = f
}

// closeTheirs closes the watch that was kept.
func (k *kept) closeTheirs() {
	if k.theirs != nil {
		k.theirs.close()
		k.theirs = nil
	}
}

// shownTo returns what the cache shows, nil if there is no cache for this entry.
func (k *kept) shownTo(e *Entry) *snapshot {
	if k.cache == nil || !k.cache.serves(e) {
		return nil
	}
	return k.cache.snapshot
}

// Viewed reports whether there is a cache. Its watch has to be listened to. The others report little, and keep
// it for the next wait.
func (k *kept) Viewed() bool { return k.cache != nil }

// Close ends the watches that the queue keeps between calls.
func (k *kept) Close() {
	k.closeTheirs()
	k.closeCache()
	k.closeInbox()
}

// Resting is how long a queue keeps its watch for the next wait or hold.
const Resting = time.Second

// Stay keeps the watch of the queue while we hold, until left is closed or ctx ends, for Resting at
// most. Then a Guard is to watch our key. The error is ErrEvicted if our own key is gone, or what etcd
// refuses.
//
// Once kept is closed, contended is called when another entry is in the queue: at least once, soon
// after that entry came, whether it came before or after.
func (k *kept) Stay(ctx context.Context, e *Entry, left, kept <-chan struct{}, contended func()) error {
	c := k.cache
	if c == nil || !c.serves(e) || c.late {
		return nil
	}
	keeping := false
	for c.timer.Reset(Resting); c.watch != nil && !k.of.tooLong(len(c.entries)); {
		shown, err := c.shows(ctx, e)
		switch {
		case err != nil:
			return err
		case shown && keeping && len(c.entries) > 1:
			contended()
		}
		select {
		case resp, ok := <-c.ch():
			c.heard(resp, ok)
			c.apply(c.events)
			k.closeTheirs()
		case <-kept:
			if kept, keeping = nil, true; c.deletesOnly {
				return nil
			}
		case <-c.c:
			return nil
		case <-left:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Rest keeps the cache until wake, for Resting at most. If it returns false, nothing woke it, and all watches
// are closed.
func (k *kept) Rest(wake <-chan struct{}) (woken bool) {
	c := k.cache
	if c == nil || c.late {
		k.Close()
		return false
	}
	over := time.NewTimer(Resting)
	defer over.Stop()
	for {
		select {
		case resp, ok := <-c.ch():
			c.heard(resp, ok)
			c.apply(c.events)
			continue
		case <-wake:
			return true
		case <-over.C:
		case <-k.of.life.Done():
		}
		k.Close()
		return false
	}
}
