package etcdlock

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// Processes that contend for a name assume an empty queue once at most. An acquisition is two writes,
// without a read.
func TestAContendedLockTakesTwoRequests(t *testing.T) {
	for _, c := range []struct {
		sessions    int
		hold, pause time.Duration
	}{{2, 0, 0}, {2, time.Millisecond, 5 * time.Millisecond}, {2, 0, 50 * time.Millisecond}, {4, 0, 0}, {4, time.Millisecond, 3 * time.Millisecond}} {
		t.Run(fmt.Sprintf("%d sessions, hold %v, pause %v", c.sessions, c.hold, c.pause), func(t *testing.T) {
			simulate(t, func(w *world) {
				const each = 100
				mutexes := make([]*Mutex, c.sessions)
				for i := range mutexes {
					mutexes[i] = NewMutex(w.session(fmt.Sprint(i)), "m")
				}
				for i := range mutexes {
					w.Client(fmt.Sprint(i)).ResetCounts()
				}
				var all []*pending[struct{}]
				for _, m := range mutexes {
					all = append(all, start(w, func(ctx context.Context) (struct{}, error) {
						for range each {
							err := m.Do(ctx, func(context.Context, *Lock) error {
								time.Sleep(c.hold)
								return nil
							})
							if err != nil {
								return struct{}{}, err
							}
							time.Sleep(c.pause)
						}
						return struct{}{}, nil
					}))
				}
				for _, p := range all {
					p.get()
				}
				for i := range mutexes {
					client := w.Client(fmt.Sprint(i))
					require.InDelta(w, 2*each, client.Count(simetcd.Txn), 1, "writes")
					require.LessOrEqual(w, client.Count(simetcd.Range, simetcd.TxnReadOnly, simetcd.Watch), 3)
				}
				w.allGone()
			})
		})
	}
}

// A session that is alone again stops watching the queue.
func TestALockThatWasContendedIsLockedLikeAFreeOneLater(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		a, b := NewMutex(s, "m"), NewMutex(w.session("b"), "m")
		synctest.Wait()
		before := len(simetcd.Goroutines())
		held := w.lock(b)
		waits := begin(w, a.Lock)
		w.pass(10 * time.Millisecond)
		require.NoError(w, held.Unlock(w.ctx))
		require.NoError(w, waits.get().Unlock(w.ctx))
		watched := 0
		for range 200 {
			require.Equal(w, "2 Txn", requests(w.Client("a"), func() { require.NoError(w, w.lock(a).Unlock(w.ctx)) }))
			watched += w.Client("a").Open().Watches
		}
		require.Zero(w, w.Client("a").Open().Watches)
		require.LessOrEqual(w, watched, 100)
		require.Equal(w, before, len(simetcd.Goroutines()), "and has no worker")
		w.allGone()
	})
}
