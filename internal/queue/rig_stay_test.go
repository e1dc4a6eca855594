package queue

import (
	"context"
	"time"

	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// ear is an Owner for tests.
type ear struct {
	evicted   chan error
	contended func()
}

func (o *ear) Evicted()            { o.evicted <- lockerr.ErrEvicted }
func (o *ear) Contended()          { o.contended() }
func (o *ear) Unguarded(err error) { o.evicted <- err }

// stay is what the lock manager does during a hold: it listens to the cache of the queue, and then has
// the key guarded. It blocks until our own key is gone, or ctx ends, and returns its cause.
func (q *Queue) stay(ctx context.Context, e *Entry, kept <-chan struct{}, contended func()) error {
	if err := q.Stay(ctx, e, nil, kept, contended); err != nil {
		return err
	}
	o := &ear{make(chan error, 1), contended}
	select {
	case <-time.After(Settle):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	k := (&Queues{q.shared}).Keeper(func(run func()) { go run() })
	g := k.Guard(e, q.Viewed(), o)
	q.Close()
	defer g.Stop()
	for {
		select {
		case err := <-o.evicted:
			return err
		case <-kept:
			kept = nil
			g.Keep()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
