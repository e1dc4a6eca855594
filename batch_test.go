package etcdlock

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// lockMany locks many names at once, from one session, and returns what came of it.
func lockMany(w *world, s *Session, n int) []*pending[*Lock] {
	var all []*pending[*Lock]
	for i := range n {
		all = append(all, start(w, NewMutex(s, fmt.Sprintf("many/%d", i)).Lock))
	}
	return all
}

func TestWritesOfManyNamesTravelTogether(t *testing.T) {
	simulate(t, func(w *world) {
		s, c := w.session("a"), w.Client("a")
		require.LessOrEqual(w, countOf(c, func() {
			for i, p := range lockMany(w, s, 150) {
				l := p.get()
				require.Equal(w, l.Key(), string(w.Keys(fmt.Sprintf("many/%d/", i))[0].Key))
				require.Equal(w, w.Keys(fmt.Sprintf("many/%d/", i))[0].CreateRevision, l.Token())
				start(w, func(ctx context.Context) (any, error) { return nil, l.Unlock(ctx) })
			}
			w.pass(time.Second)
		}), 30, "300 writes")
		require.Empty(w, w.Keys("many/"))
	})
}

func TestOneWriteAmongFewGoesOutAtOnce(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		began := time.Now()
		for _, p := range lockMany(w, s, 2) {
			p.get()
		}
		require.Less(w, time.Since(began), 3500*time.Microsecond, "one round trip of at most 3 ms, side by side")
	})
}

// A batch that etcd refuses says nothing of most of those in it.
func TestARefusedBatchFailsOnlyTheOneThatIsToBlame(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		toBlame := func(i int) bool { return i%8 == 7 } // more than can be sent alone, in any order
		w.Intercept(func(c simetcd.Call) simetcd.Action {
			txn, ok := c.Req.(*pb.TxnRequest)
			for i := 0; ok && i < 40; i++ {
				if toBlame(i) && writes(txn, fmt.Sprintf("many/%d/", i)) {
					return simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}
				}
			}
			return simetcd.Action{}
		})
		for i, p := range lockMany(w, s, 40) {
			l, err := p.result()
			if toBlame(i) {
				require.ErrorIs(w, err, rpctypes.ErrPermissionDenied)
				continue
			}
			require.NoError(w, err)
			require.NoError(w, l.Unlock(w.ctx))
		}
		w.Intercept(nil)
		w.pass(15 * time.Second)
		require.Empty(w, w.Keys("many/"))
	})
}

// writes tells whether a transaction, or a part of it, writes below a prefix.
func writes(txn *pb.TxnRequest, prefix string) bool {
	for _, op := range append(append([]*pb.RequestOp{}, txn.Success...), txn.Failure...) {
		if p := op.GetRequestPut(); p != nil && len(p.Key) >= len(prefix) && string(p.Key[:len(prefix)]) == prefix {
			return true
		}
		if part := op.GetRequestTxn(); part != nil && writes(part, prefix) {
			return true
		}
	}
	return false
}

func TestABatchWithoutAnAnswerIsAskedForAgain(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		dropped := 0
		w.Intercept(func(c simetcd.Call) simetcd.Action {
			if c.Kind == simetcd.Txn && c.N%3 == 1 {
				dropped++
				return simetcd.Action{DropReply: true}
			}
			return simetcd.Action{}
		})
		for _, p := range lockMany(w, s, 40) {
			require.NoError(w, p.get().Unlock(w.ctx))
		}
		require.Positive(w, dropped)
		w.Intercept(nil)
		w.pass(15 * time.Second)
		require.Empty(w, w.Keys("many/"))
	})
}

// The writes of a batch are brief as long as all of them meet what they expect. When one does
// not, no other one pays for it with more than another round trip, and each has its own outcome.
func TestABatchInWhichSomeComparisonsFailIsSentAtLength(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := w.session("a"), w.session("b")
		theirs := w.lock(NewMutex(b, "many/30"))
		all := lockMany(w, a, 40)
		w.pass(time.Second)
		var holds []*Lock
		for i, p := range all {
			if i == 30 {
				p.isWaiting()
				continue
			}
			holds = append(holds, p.get())
			require.Len(w, w.Keys(fmt.Sprintf("many/%d/", i)), 1)
		}
		require.NoError(w, theirs.Unlock(w.ctx))
		holds = append(holds, all[30].get())

		w.DeleteKey(holds[20].Key()) // by an administrator
		var ends []*pending[error]
		for _, l := range holds {
			ends = append(ends, start(w, func(ctx context.Context) (error, error) { return l.Unlock(ctx), nil }))
		}
		for i, p := range ends {
			if err := p.get(); i == 20 {
				require.ErrorIs(w, err, ErrEvicted)
			} else {
				require.NoError(w, err)
			}
		}
		require.Empty(w, w.Keys("many/"))
	})
}

// A caller that gives up while its write waits for a slot leaves nothing, and delays no other
// caller.
func TestAWriteWhoseCallerHasGoneIsLeftOut(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		all := lockMany(w, s, 20)
		for _, p := range all[10:] {
			p.cancel()
		}
		for i, p := range all {
			l, err := p.result()
			require.Equal(w, i < 10, err == nil, "%d: %v", i, err)
			if err == nil {
				require.NoError(w, l.Unlock(w.ctx))
			}
		}
		w.pass(15 * time.Second)
		require.Empty(w, w.Keys("many/"))
	})
}

// countOf counts the requests that write.
func countOf(c *simetcd.Client, f func()) int {
	c.ResetCounts()
	f()
	return c.Count(simetcd.Txn)
}

// Two writes that hang, perhaps on a dead connection, delay no other write.
func TestWritesThatHangDoNotHoldUpOthers(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		w.Intercept(func(c simetcd.Call) simetcd.Action {
			return simetcd.Action{DropRequest: c.Kind == simetcd.Txn && c.N <= 2}
		})
		hung := lockMany(w, s, 2)
		w.pass(time.Millisecond)
		began := time.Now()
		l := w.lock(NewMutex(s, "another"))
		require.Less(w, time.Since(began), 250*time.Millisecond)
		require.NoError(w, l.Unlock(w.ctx))
		for _, p := range hung {
			require.NoError(w, p.get().Unlock(w.ctx))
		}
	})
}

// A batch that is refused late does not leave its writes behind, although its slot was freed by then.
// Nor does the write that is to blame hold up the others, when they are sent alone, while a slot is
// free.
func TestABatchThatIsRefusedLateIsSentAgainAtOnce(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		w.Intercept(func(c simetcd.Call) simetcd.Action {
			txn, ok := c.Req.(*pb.TxnRequest)
			switch {
			case ok && writes(txn, "many/7/"):
				return simetcd.Action{DelayRequest: 500 * time.Millisecond, Err: rpctypes.ErrGRPCPermissionDenied}
			case ok && c.N <= 3: // which have the slots, so that the others share a batch
				return simetcd.Action{DelayRequest: 50 * time.Millisecond}
			}
			return simetcd.Action{}
		})
		began := time.Now()
		var all []*pending[*Lock]
		for i := range 40 {
			all = append(all, start(w, NewMutex(s, fmt.Sprintf("many/%d", i)).Lock))
			synctest.Wait()
		}
		var holds []*Lock
		for i, p := range all {
			l, err := p.result()
			if i == 7 {
				require.ErrorIs(w, err, rpctypes.ErrPermissionDenied)
				continue
			}
			require.NoError(w, err)
			require.Less(w, p.at.Sub(began), 800*time.Millisecond)
			holds = append(holds, l)
		}
		for _, l := range holds {
			require.NoError(w, l.Unlock(w.ctx))
		}
	})
}
