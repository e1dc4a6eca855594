package queue

import (
	"context"
	"time"
)

// Resting is how long a queue keeps its watch for the next wait or hold.
const Resting = time.Second

// Stay keeps the watch of the queue while we hold, until left is closed or ctx ends, for Resting at
// most. Then a Guard is to watch our key. The error is ErrEvicted if our own key is gone, or what etcd
// refuses.
//
// Once kept is closed, contended is called when another entry is in the queue: at least once, soon
// after that entry came, whether it came before or after.
func (q *Queue) Stay(ctx context.Context, e *Entry, left, kept <-chan struct{}, contended func()) error {
	c := q.cache
	if c == nil || !c.serves(e) || c.late {
		return nil
	}
	keeping := false
	for c.timer.Reset(Resting); c.watch != nil && !q.tooLong(len(c.entries)); {
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
			q.closeTheirs()
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

// Rest keeps the watch of the queue until wake, for Resting at most. If it returns false, nothing
// woke it, and the watch is closed.
func (q *Queue) Rest(wake <-chan struct{}) (woken bool) {
	f := q.theirs
	if q.cache != nil {
		f = &q.cache.follower
	}
	if f == nil || f.late {
		q.Close()
		return false
	}
	for f.timer.Reset(Resting); ; {
		select {
		case resp, ok := <-f.ch():
			f.heard(resp, ok)
			if q.cache != nil {
				q.cache.apply(f.events)
			}
			continue
		case <-wake:
			return true
		case <-f.c:
		case <-q.life.Done():
		}
		q.Close()
		return false
	}
}
