package concurrency

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	v3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// native makes a session of etcdlock itself, of 10 s.
func (w *world) native(client string) *etcdlock.Session {
	w.Helper()
	s, err := etcdlock.NewSession(w.ctx, w.Client(client).Client, etcdlock.WithTTL(10*time.Second), etcdlock.WithForeignNames())
	require.NoError(w, err)
	w.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

// report C1
func TestACandidateLeadsAfterItHasSteppedBehindAnother(t *testing.T) {
	for _, by := range []string{"priority", "transfer"} {
		t.Run(by, func(t *testing.T) {
			simulate(t, func(w *world) {
				first, err := etcdlock.NewElection(w.native("x"), "e").Campaign(w.ctx, "X")
				require.NoError(w, err)
				s := w.session("a")
				e := NewElection(s, "e")
				ours := w.start(campaign(e, "ours"))
				preferred := etcdlock.NewElection(w.native("p"), "e")
				if by == "priority" {
					preferred = etcdlock.NewElection(w.native("p"), "e", etcdlock.WithPriority(5))
				}
				var second *etcdlock.Term
				theirs := w.start(func(ctx context.Context) (err error) {
					second, err = preferred.Campaign(ctx, "P")
					return err
				})
				if by == "priority" {
					require.NoError(w, first.Resign(w.ctx))
				} else {
					require.NoError(w, first.Transfer(w.ctx, "P"))
				}
				require.NoError(w, theirs.result())
				w.pass(time.Minute)
				ours.isWaiting()
				require.NoError(w, second.Resign(w.ctx))
				require.NoError(w, ours.result())

				kv := w.Keys("e/")[0]
				require.NotEqual(w, wire.Key("e", s.Lease()), e.Key(), "it has stepped behind")
				require.Equal(w, string(kv.Key), e.Key())
				require.Equal(w, kv.CreateRevision, e.Rev())
				require.Equal(w, e.Rev(), e.Header().Revision)
				require.Equal(w, "ours", w.leader(e))
				require.NoError(w, e.Proclaim(w.ctx, "still ours"))
				require.Equal(w, "still ours", w.leader(e))
				require.NoError(w, NewElection(s, "e").Campaign(w.ctx, "the same leader"))
				require.NoError(w, e.Resign(w.ctx))
				require.Empty(w, w.Keys(""))
			})
		})
	}
}

// report C2
func TestALockIsHeldWhileAnEarlierRequestsKeyIsSwept(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		m := NewMutex(s, "m")
		w.next("a", simetcd.Txn, simetcd.Action{DropReply: true})
		require.ErrorIs(w, m.Lock(w.timeout(20*time.Millisecond)), context.DeadlineExceeded)
		w.Intercept(func(c simetcd.Call) simetcd.Action {
			if c.Client == "a" && c.Kind == simetcd.TxnReadOnly {
				return simetcd.Action{DelayRequest: 2 * time.Second} // what the sweep begins with
			}
			return simetcd.Action{}
		})
		for w.Client("a").Count(simetcd.TxnReadOnly) == 0 {
			w.pass(10 * time.Millisecond)
		}
		require.NoError(w, m.Lock(w.timeout(time.Minute)))
		require.NoError(w, s.Ctx().Err())
		require.True(w, w.isOwner(m))
		require.Equal(w, wire.Key("m", s.Lease()), m.Key(), "it waits for the sweep, not in line behind the key that is swept")
		require.Equal(w, m.Header().Revision, m.Hold().Token())
		other := w.start(NewMutex(w.session("b"), "m").Lock)
		w.pass(time.Minute)
		other.isWaiting()
		require.NoError(w, m.Unlock(w.ctx))
		require.NoError(w, other.result())
	})
}

// report C2: a lock that continues with a place of the previous process, such as a lock on several
// names, has another key than its session's first one.
func TestALockIsHeldByWhateverKeyOfItsLease(t *testing.T) {
	simulate(t, func(w *world) {
		former := w.native("x")
		lock, err := etcdlock.NewMutex(former, "m").Lock(w.ctx)
		require.NoError(w, err)
		value := string(w.Keys("m/")[0].Value)
		require.NoError(w, lock.Unlock(w.ctx))
		id, err := former.Orphan(w.ctx)
		require.NoError(w, err)
		key := wire.SlotKey("m", id, wire.Slot{N: 1})
		rev := w.PutKey(key, value, id)

		s := w.session("a", WithLease(id))
		m := NewMutex(s, "m")
		require.NoError(w, m.Lock(w.timeout(time.Second)))
		require.Equal(w, key, m.Key())
		require.Equal(w, rev, m.Hold().CreateRevision())
		require.True(w, w.isOwner(m))
		require.NoError(w, m.Unlock(w.ctx))
		require.Empty(w, w.Keys("m/"))
	})
}

// A mark that a Transfer has left goes with a resumed term, and is no leader before.
func TestAMarkIsNoLeader(t *testing.T) {
	simulate(t, func(w *world) {
		first, err := etcdlock.NewElection(w.native("x"), "e").Campaign(w.ctx, "X")
		require.NoError(w, err)
		s := w.session("a")
		e := NewElection(s, "e")
		ours := w.start(campaign(e, "ours"))
		require.NoError(w, first.Transfer(w.ctx, "ours"))
		require.NoError(w, ours.result())
		key, rev := e.Key(), e.Rev()
		s.Orphan()
		again := w.session("a", WithLease(s.Lease()))
		require.NoError(w, ResumeElection(again, "e", key, rev).Resign(w.ctx))
		require.Empty(w, w.Keys(""))

		other := NewElection(w.session("b"), "e")
		require.NoError(w, other.Campaign(w.ctx, "other"))
		w.PutKey(wire.SuccessorKey("f", again.Lease()), `{"next":"1f","rev":1}`, again.Lease())
		_, err = NewElection(again, "f").Leader(w.ctx)
		require.ErrorIs(w, err, ErrElectionNoLeader)
		w.PutKey("f/1f", "led by hand", v3.NoLease)
		require.Equal(w, "led by hand", w.leader(NewElection(again, "f")))
	})
}
