package etcdlock

import (
	"context"
	"testing"
	"time"
)

// A caller that gives up does not leave its place to one with another limit, which has to get an
// error.
func TestAPlaceIsNotInheritedByAnotherLimit(t *testing.T) {
	simulate(t, func(w *world) {
		three := NewSemaphore(w.session("a"), "m", 3)
		held := start(w, func(ctx context.Context) (*Permit, error) { return three.Acquire(ctx, 3) }).get()
		s := w.session("b")
		acquire := func(limit int) *pending[*Permit] {
			p := start(w, func(ctx context.Context) (*Permit, error) { return NewSemaphore(s, "m", limit).Acquire(ctx, 1) })
			w.pass(time.Second)
			return p
		}
		first := acquire(3)
		other := acquire(5)
		first.cancel()
		other.fails(ErrLimitMismatch)
		w.unlock(held.Release)
		w.empty("m")
		w.allGone()
	})
}
