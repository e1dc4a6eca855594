package etcdlock

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// marksInCrowds has a session mark its entries in a queue with 6 others or more.
func marksInCrowds() SessionOption {
	return sessionOptionFunc(func(c *sessionConfig) { c.Hooks.Crowd = 6 })
}

// throng has n sessions lock and unlock again and again for half a minute, and returns the number of grants
// in its last seconds.
func (w *world) throng(n int) (late int) {
	const lasts = 30 * time.Second
	var mu sync.Mutex
	var all sync.WaitGroup
	began := time.Now()
	ctx, cancel := context.WithDeadline(w.ctx, began.Add(lasts))
	defer cancel()
	for i := range n {
		m := NewMutex(w.session(fmt.Sprint("c", i), marksInCrowds()), "m")
		all.Go(func() {
			for ctx.Err() == nil {
				l, err := m.Lock(ctx)
				if err != nil {
					continue
				}
				mu.Lock()
				if time.Since(began) > lasts-5*time.Second {
					late++
				}
				mu.Unlock()
				time.Sleep(10 * time.Millisecond)
				_ = l.Unlock(ctx)
			}
		})
	}
	all.Wait()
	return late
}

// Watches take longer to open than an entry waits for that, in the first seconds of a crowd. So many entries
// have no inbox.
func TestACrowdGoesOnAfterWatchesWereSlow(t *testing.T) {
	simulate(t, func(w *world) {
		began := time.Now()
		w.Intercept(func(c simetcd.Call) simetcd.Action {
			if c.Kind == simetcd.Watch && time.Since(began) < 2*time.Second {
				return simetcd.Action{DelayReply: 150 * time.Millisecond}
			}
			return simetcd.Action{}
		})
		require.Greater(w, w.throng(12), 50)
	})
}

// One session may write beside the queue, and all others may not.
func TestACrowdGoesOnThoughFewMayWriteBesideTheQueue(t *testing.T) {
	simulate(t, func(w *world) {
		w.Intercept(func(c simetcd.Call) simetcd.Action {
			if c.Client != "c0" && strings.Contains(fmt.Sprint(c.Req), `turn/`) {
				return simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}
			}
			return simetcd.Action{}
		})
		require.Greater(w, w.throng(12), 50)
	})
}

// An entry ahead of a marked one that cannot be told anything finds that out by a request.
func TestASessionThatCannotWatchItsInboxEntersUnmarked(t *testing.T) {
	simulate(t, func(w *world) {
		w.Intercept(func(c simetcd.Call) simetcd.Action {
			if c.Client == "b" && c.Kind == simetcd.Watch && strings.Contains(fmt.Sprint(c.Req), `turn/`) {
				return simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}
			}
			return simetcd.Action{}
		})
		a := w.lock(NewMutex(w.session("a", marks()), "m"))
		b := start(w, NewMutex(w.session("b", marks()), "m").Lock)
		w.pass(5 * time.Second)
		entries := w.Keys("m/")
		require.Len(w, entries, 2)
		_, marked := wire.MarkedOf("m", string(entries[1].Key))
		require.False(w, marked)
		w.Client("a").ResetCounts()
		w.unlock(a.Unlock)
		require.Equal(w, 1, w.Client("a").Count(simetcd.Txn))
		w.unlock(b.get().Unlock)
	})
}

// Many entries of other clients stand behind a marked holder.
func TestUnlockEndsBeforeManyOthers(t *testing.T) {
	simulate(t, func(w *world) {
		l := w.lock(NewMutex(w.session("a", marks()), "m"))
		for i := range 257 {
			w.PutKey(fmt.Sprintf("m/%x", 0x1000+i), "", w.GrantLease(time.Hour))
		}
		require.NoError(w, l.Unlock(w.timeout(time.Minute)))
		require.Nil(w, w.Get(l.Key()))
	})
}

// The key of a holder is deleted, and the answer to the message that follows is lost.
func TestUnlockOfAMarkedKeyThatIsGoneSaysSo(t *testing.T) {
	simulate(t, func(w *world) {
		a := w.lock(NewMutex(w.session("a", marks()), "m"))
		b := start(w, NewMutex(w.session("b", marks()), "m").Lock)
		w.pass(50 * time.Millisecond)
		w.DeleteKey(a.Key())
		w.GrantLease(time.Hour)
		n := 0
		w.Intercept(func(c simetcd.Call) simetcd.Action {
			if c.Client == "a" && c.Kind == simetcd.Txn {
				if n++; n == 2 {
					return simetcd.Action{ErrAfter: rpctypes.ErrGRPCLeaderChanged}
				}
			}
			return simetcd.Action{}
		})
		require.ErrorIs(w, a.Unlock(w.ctx), ErrLost)
		w.Intercept(nil)
		require.NoError(w, b.get().Unlock(w.ctx))
	})
}
