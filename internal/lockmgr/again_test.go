package lockmgr

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// aboutToEnterAgain has a hold of one session after its time slice, with another caller of the session
// behind it, and one of another session.
func (r *rig) aboutToEnterAgain() (h *Hold, same, other *try) {
	r.Helper()
	a, b := r.marking("a"), r.marking("b")
	h = a.lock("m", exclusive())
	same, other = a.start("m", exclusive()), b.start("m", exclusive())
	r.pass(10 * time.Millisecond)
	return h, same, other
}

// The last holder leaves and enters for the next caller by one request, so all sessions take their turns.
func TestTheLastHolderEntersForAWaiter(t *testing.T) {
	simulate(t, func(r *rig) {
		h, same, other := r.aboutToEnterAgain()
		r.Client("a").ResetCounts()
		r.unlock(h)
		require.Equal(r, 1, r.Client("a").Count(simetcd.Txn))
		r.pass(10 * time.Millisecond)
		require.Len(r, r.Keys("m/"), 2)
		<-other.done
		require.NoError(r, other.err)
		require.Greater(r, other.hold.Token(), h.Token())
		r.unlock(other.hold)
		<-same.done
		require.NoError(r, same.err)
		require.Greater(r, same.hold.Token(), other.hold.Token())
		require.Equal(r, local.PathQueued, same.hold.Path())
		require.Equal(r, 1, r.Client("a").Count(simetcd.Txn))
		r.unlock(same.hold)
		r.pass(time.Minute)
		require.Empty(r, r.Keys("m"))
	})
}

// onceTxn does something with the next transaction of a.
func (r *rig) onceTxn(do func() simetcd.Action) {
	first := true
	r.Intercept(func(c simetcd.Call) simetcd.Action {
		if c.Client == "a" && c.Kind == simetcd.Txn && first {
			first = false
			return do()
		}
		return simetcd.Action{}
	})
}

// brittle is a context that panics.
type brittle struct{ context.Context }

func (brittle) Done() <-chan struct{} { panic("of the client") }

// Whatever happens to the request, the other session is next, the waiter has an outcome, and nothing is left.
func TestWhateverHappensToAReleaseThatEntersAgain(t *testing.T) {
	lost := func(before, after error, delay time.Duration) func(*rig, *Hold, *try) {
		return func(r *rig, h *Hold, _ *try) {
			r.onceTxn(func() simetcd.Action { return simetcd.Action{Err: before, ErrAfter: after, DelayReply: delay} })
			r.unlock(h)
		}
	}
	during := func(do func(r *rig, h *Hold, same *try)) func(*rig, *Hold, *try) {
		return func(r *rig, h *Hold, same *try) {
			r.onceTxn(func() simetcd.Action {
				go do(r, h, same)
				return simetcd.Action{DelayReply: 50 * time.Millisecond}
			})
			_ = h.Release(r.Context())
		}
	}
	canceled := func(t *testing.T, err error) { t.Helper(); require.ErrorIs(t, err, context.Canceled) }
	for name, c := range map[string]struct {
		happens func(r *rig, h *Hold, same *try)
		fails   func(t *testing.T, err error) // the waiter; nil if it is granted
	}{
		"the request is lost": {happens: lost(rpctypes.ErrGRPCNoLeader, nil, 0)},
		"the answer is lost":  {happens: lost(nil, rpctypes.ErrGRPCNoLeader, 0)},
		"the answer is late":  {happens: lost(nil, nil, time.Second)},
		"the key is gone":     {happens: func(r *rig, h *Hold, _ *try) { r.DeleteKey(h.Entry().Key); require.Error(r, h.Release(r.Context())) }},
		"another copy of it": {happens: func(r *rig, h *Hold, _ *try) {
			r.unlock(h)
			require.ErrorIs(r, h.Release(r.Context()), lockerr.ErrReleased)
		}},
		"the waiter gave up":  {happens: func(r *rig, h *Hold, w *try) { w.cancel(); r.unlock(h) }, fails: canceled},
		"the waiter gives up": {happens: during(func(_ *rig, _ *Hold, w *try) { w.cancel() }), fails: canceled},
		"the lease ends":      {happens: during(func(r *rig, _ *Hold, _ *try) { r.managers[0].present.End(errEnded) }), fails: func(t *testing.T, err error) { t.Helper(); require.Error(t, err) }},
		"the holder does not wait": {happens: func(r *rig, h *Hold, _ *try) {
			ctx, cancel := context.WithTimeout(r.Context(), 10*time.Millisecond)
			defer cancel()
			r.onceTxn(func() simetcd.Action { return simetcd.Action{DelayReply: 100 * time.Millisecond} })
			_ = h.Release(ctx)
		}},
		"the client's code panics": {happens: func(r *rig, h *Hold, _ *try) {
			require.Panics(r, func() { _ = h.Release(brittle{r.Context()}) })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(r *rig) {
				h, same, other := r.aboutToEnterAgain()
				c.happens(r, h, same)
				<-other.done
				require.NoError(r, other.err)
				require.Greater(r, other.hold.Token(), h.Token())
				r.pass(time.Second)
				r.unlock(other.hold)
				<-same.done
				if c.fails == nil {
					require.NoError(r, same.err)
					require.Greater(r, same.hold.Token(), other.hold.Token())
					r.unlock(same.hold)
				} else {
					c.fails(t, same.err)
				}
				r.Intercept(nil)
				r.pass(5 * time.Minute)
				require.Empty(r, r.Keys("m"))
				for _, m := range r.managers {
					require.NoError(r, m.bug)
					require.Equal(r, nothing, m.Snapshot())
				}
			})
		})
	}
}

// The second try has deleted the key. So the first one cannot write its entry any more, and nothing is left to
// be found out.
func TestALostReleaseLeavesNoDoubtAboutItsEntry(t *testing.T) {
	for name, act := range map[string]simetcd.Action{
		"request lost": {Err: rpctypes.ErrGRPCNoLeader}, "answer lost": {ErrAfter: rpctypes.ErrGRPCNoLeader},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(r *rig) {
				h, same, other := r.aboutToEnterAgain()
				r.onceTxn(func() simetcd.Action { return act })
				r.unlock(h)
				<-other.done
				r.pass(time.Second)
				require.Zero(r, r.managers[0].Snapshot().Keys.Uncertain)
				r.unlock(other.hold)
				<-same.done
				r.unlock(same.hold)
			})
		})
	}
}

// The last holder drives the local queue from when it begins to enter until it tells what came of that. So no
// worker uses the queue meanwhile, also if the ownership is found to be lost.
func TestNoWorkerActsWhileTheLastHolderEnters(t *testing.T) {
	simulate(t, func(r *rig) {
		h, same, other := r.aboutToEnterAgain()
		released, d := r.managers[0].Release(&h.Hold)
		require.Equal(r, local.Last, released)
		a := d.Again()
		require.NotNil(r, a)
		before := workers()
		d.Of.Lose(errEnded)
		r.pass(10 * time.Millisecond)
		require.Equal(r, before, workers())
		require.Nil(r, d.Again(), "it drives once")
		settled := d.LeftAgain(a, false, errCutOff)
		<-settled
		<-other.done
		r.unlock(other.hold)
		<-same.done
		require.NoError(r, r.managers[0].bug)
	})
}

// A key of the session may still come by an earlier request. Until that is known, a release only leaves.
func TestAReleaseDoesNotEnterAgainInDoubt(t *testing.T) {
	simulate(t, func(r *rig) {
		h, same, other := r.aboutToEnterAgain()
		a := r.managers[0]
		a.sweeper.Suspect(a.present, "m", wire.MarkedSlot(1), 1, time.Minute)
		r.unlock(h)
		r.pass(10 * time.Millisecond)
		require.Empty(r, r.Keys(wire.SlotKey("m", a.present.ID(), wire.MarkedSlot(1))))
		<-other.done
		r.unlock(other.hold)
		<-same.done
		r.unlock(same.hold)
	})
}
