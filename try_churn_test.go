package etcdlock

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// Where others come and go all the time, a try ends nevertheless, and gets what is free.
func TestATryAmongManyWhoComeAndGoEnds(t *testing.T) {
	simulate(t, func(w *world) {
		ctx, stop := context.WithCancel(w.ctx)
		for i := range 15 {
			s := NewSemaphore(w.session(fmt.Sprint("c", i)), "m", 100)
			go func() {
				for ctx.Err() == nil {
					if p, err := s.Acquire(ctx, 1); err == nil {
						_ = p.Release(ctx)
					}
				}
			}()
		}
		w.pass(100 * time.Millisecond)
		a := NewSemaphore(w.session("a"), "m", 100)
		before := w.Client("a").Count(simetcd.Txn)
		p, err := a.TryAcquire(w.timeout(time.Minute), 1)
		require.NoError(w, err)
		require.LessOrEqual(w, w.Client("a").Count(simetcd.Txn)-before, 10)
		w.unlock(p.Release)
		_, err = a.TryAcquire(w.timeout(time.Minute), 100)
		require.ErrorIs(w, err, ErrLocked)
		stop()
		w.pass(time.Second)
		w.empty("m")
		w.allGone()
	})
}
