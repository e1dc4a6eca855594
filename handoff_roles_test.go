package etcdlock

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// forbidBeside has etcd refuse what these clients write beside queues.
func (w *world) forbidBeside(clients ...string) {
	w.Intercept(func(c simetcd.Call) simetcd.Action {
		if slices.Contains(clients, c.Client) && c.Kind == simetcd.Txn && strings.Contains(fmt.Sprint(c.Req), `turn/`) {
			return simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}
		}
		return simetcd.Action{}
	})
}

// A session that may not write beside the queue has an unmarked entry, each time that the name is used after a
// rest. So an entry behind it is granted when it leaves.
func TestASessionWithoutAnInboxHoldsUpNoOther(t *testing.T) {
	// For a call with little time a worker enters, and for others the caller.
	for name, most := range map[string]time.Duration{"the caller enters": time.Hour, "a worker enters": 500 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) { w.holdsUpNoOther(most) })
		})
	}
}

// holdsUpNoOther has a session without an inbox wait between others, for a time at most.
func (w *world) holdsUpNoOther(most time.Duration) {
	w.forbidBeside("poor")
	a, c := NewMutex(w.session("a"), "m"), NewMutex(w.session("c", marks()), "m")
	poor := NewMutex(w.session("poor", marks()), "m")
	for range 3 {
		first := w.lock(a)
		second := start(w, func(ctx context.Context) (*Lock, error) {
			ctx, cancel := context.WithTimeout(ctx, most)
			defer cancel()
			return poor.Lock(ctx)
		})
		w.pass(50 * time.Millisecond)
		third := start(w, c.Lock)
		w.pass(50 * time.Millisecond)
		require.NoError(w, first.Unlock(w.ctx))
		held := second.get()
		require.NotContains(w, held.Key(), ".1000000000")
		began := time.Now()
		require.NoError(w, held.Unlock(w.ctx))
		require.NoError(w, third.get().Unlock(w.ctx))
		require.Less(w, time.Since(began), 20*time.Millisecond)
		w.pass(3 * time.Second)
	}
	require.Empty(w, w.Keys(""))
	w.allGone()
}

// A role is changed while a session marks its entries. One entry behind it settles, and the next ones of the
// session are unmarked.
func TestASessionThatMayTellNothingAnyMoreMarksNoEntry(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewMutex(w.session("a", marks()), "m"), NewMutex(w.session("b", marks()), "m")
		held := w.lock(a)
		for round := range 4 {
			next := start(w, b.Lock)
			w.pass(20 * time.Millisecond)
			if round == 0 {
				w.forbidBeside("a")
			}
			began := time.Now()
			require.NoError(w, held.Unlock(w.ctx))
			l := next.get()
			if round > 0 {
				require.Less(w, time.Since(began), 20*time.Millisecond, "round %d", round)
			}
			again := start(w, a.Lock)
			w.pass(20 * time.Millisecond)
			require.NoError(w, l.Unlock(w.ctx))
			held = again.get()
			require.NotContains(w, held.Key(), ".1000000000")
		}
		require.NoError(w, held.Unlock(w.ctx))
		w.allGone()
	})
}

// A former process has left a marked key, and the next one may not write its inbox. It goes on with the key.
func TestAMarkedKeyIsAdoptedWithoutAnInbox(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a", marks())
		held := w.lock(NewMutex(s, "m"))
		next := start(w, NewMutex(w.session("c", marks()), "m").Lock)
		w.pass(10 * time.Millisecond)
		w.Client("a").Cut()
		w.DeleteKey("m\x00turn/" + fmt.Sprintf("%x", int64(s.Lease())))
		w.forbidBeside("b")
		heir := w.session("b", WithLease(s.Lease()), marks())
		l := w.lock(NewMutex(heir, "m"))
		require.Equal(w, held.Key(), l.Key())
		require.NoError(w, l.Unlock(w.ctx))
		require.NoError(w, next.get().Unlock(w.ctx))
		require.NoError(w, heir.Close(w.ctx))
	})
}

// fleetOf has sessions lock and unlock again and again, and returns the number of grants and the longest time
// without a holder.
func (w *world) fleetOf(n int, opts ...SessionOption) (grants int, gap time.Duration) {
	var mu sync.Mutex
	var all sync.WaitGroup
	until, since := time.Now().Add(10*time.Second), time.Now()
	for i := range n {
		m := NewMutex(w.session(fmt.Sprint("c", i), opts...), "m")
		all.Go(func() {
			for time.Now().Before(until) {
				l, err := m.Lock(w.ctx)
				require.NoError(w, err)
				mu.Lock()
				grants++
				gap = max(gap, time.Since(since))
				mu.Unlock()
				time.Sleep(2 * time.Millisecond)
				mu.Lock()
				since = time.Now()
				mu.Unlock()
				require.NoError(w, l.Unlock(w.ctx))
			}
		})
	}
	all.Wait()
	return grants, gap
}

// Sessions that may write beside the queue, and sessions that may not: the lock is handed over as fast as in a
// fleet that marks no entry.
func TestAFleetOfDifferentRolesIsAsFastAsOneWithoutMarks(t *testing.T) {
	const n = 12
	var before int
	simulate(t, func(w *world) {
		before, _ = w.fleetOf(n, sessionOptionFunc(func(c *sessionConfig) { c.Hooks.Crowd = 1 << 62 }))
	})
	for _, poor := range []int{1, 4, 6, 8, 11, 12} {
		t.Run(fmt.Sprint(poor), func(t *testing.T) {
			simulate(t, func(w *world) {
				var names []string
				for i := range poor {
					names = append(names, fmt.Sprint("c", i))
				}
				w.forbidBeside(names...)
				grants, gap := w.fleetOf(n, marksInCrowds())
				t.Logf("%d grants, %d without marks; longest time without a holder %v", grants, before, gap)
				require.Greater(w, grants, before*9/10)
				require.Less(w, gap, 100*time.Millisecond)
			})
		})
	}
}
