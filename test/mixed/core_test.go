package mixed

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/etcdproc"
)

// What the library relies on in a server, each once, so that a version that lacks it is
// found out. The behaviours themselves are tested elsewhere.

func lockInBackground(ctx context.Context, m *etcdlock.Mutex) <-chan outcome {
	out := make(chan outcome, 1)
	go func() {
		l, err := m.Lock(ctx)
		o := outcome{err: err, at: time.Now()}
		if err == nil {
			o.hold = ourHold(l, l.Unlock)
		}
		out <- o
	}()
	return out
}

func TestCoreLockTryLockQueueAndRetention(t *testing.T) {
	w := newWorld(t)
	name := w.name("lock")
	a, b := w.session(w.client()), w.session(w.client())
	first, err := etcdlock.NewMutex(a, name, etcdlock.WithRetention(time.Minute)).Lock(w.ctx())
	require.NoError(t, err)
	_, err = etcdlock.NewMutex(b, name).TryLock(w.ctx())
	require.ErrorIs(t, err, etcdlock.ErrLocked)
	next := lockInBackground(w.ctx(), etcdlock.NewMutex(b, name))
	w.waitForKeys(name, 2)
	entries, err := etcdlock.NewMutex(b, name).Queue(w.ctx())
	require.NoError(t, err)
	require.Equal(t, first.Key(), entries[0].Key)
	require.Equal(t, a.Lease(), entries[0].Lease)
	require.NoError(t, first.Unlock(w.ctx()))
	second := w.granted(next)
	require.Greater(t, second.token, first.Token())
	w.release(second)

	kept, err := etcdlock.NewMutex(a, name, etcdlock.WithRetention(time.Minute)).Lock(w.ctx())
	require.NoError(t, err)
	require.NoError(t, kept.Unlock(w.ctx()))
	require.Len(t, w.keys(name), 1, "it is kept")
	third := w.granted(lockInBackground(w.ctx(), etcdlock.NewMutex(b, name)))
	require.Greater(t, third.token, kept.Token())
	w.release(third)
}

// Many names at once travel in one transaction, nested in another.
func TestCoreWritesTravelTogether(t *testing.T) {
	w := newWorld(t)
	s := w.session(w.client())
	var waiting []<-chan outcome
	for i := range 200 {
		waiting = append(waiting, lockInBackground(w.ctx(), etcdlock.NewMutex(s, w.name("lock-"+string(rune('A'+i))))))
	}
	for _, out := range waiting {
		w.release(w.granted(out))
	}
}

// In a crowd only the one next ahead is watched, and a read follows.
func TestCoreACrowdKeepsItsOrder(t *testing.T) {
	w := newWorld(t)
	name := w.name("lock")
	first := w.must(newOurMutex(w, w.client(), name))
	var waiting []<-chan outcome
	for i := range 40 {
		waiting = append(waiting, start(w.ctx(), newOurMutex(w, w.admin, name)))
		w.waitForKeys(name, i+2)
	}
	for _, out := range waiting {
		w.release(first)
		second := w.granted(out)
		require.Greater(t, second.token, first.token)
		first = second
	}
	w.release(first)
}

func TestCoreALossIsToldWithItsReason(t *testing.T) {
	w := newWorld(t)
	s := w.session(w.client())
	m := etcdlock.NewMutex(s, w.name("lock"))
	for reason, strike := range map[error]func(l *etcdlock.Lock){
		etcdlock.ErrEvicted: func(l *etcdlock.Lock) {
			_, err := w.admin.Delete(w.ctx(), l.Key())
			require.NoError(t, err)
		},
		etcdlock.ErrRevoked: func(*etcdlock.Lock) { w.revoke(s.Lease()) },
	} {
		l, err := m.Lock(w.ctx())
		require.NoError(t, err)
		strike(l)
		receiveClosed(t, l.Done(), reason.Error())
		require.ErrorIs(t, l.Err(), etcdlock.ErrLost)
		require.ErrorIs(t, l.Err(), reason)
		resp, err := w.admin.Txn(w.ctx()).If(l.Guard()).Then(clientv3.OpPut(w.name("late"), "")).Commit()
		require.NoError(t, err)
		require.False(t, resp.Succeeded, "the guard")
		require.ErrorIs(t, l.Unlock(w.ctx()), etcdlock.ErrLost)
	}
	l, err := m.Lock(w.ctx()) // under a new lease
	require.NoError(t, err)
	require.NoError(t, l.Unlock(w.ctx()))
}

func TestCoreALeaseIsLeftToASuccessor(t *testing.T) {
	w := newWorld(t)
	name := w.name("lock")
	a := w.session(w.client())
	l, err := etcdlock.NewMutex(a, name).Lock(w.ctx())
	require.NoError(t, err)
	id, err := a.Orphan(w.ctx())
	require.NoError(t, err)
	b := w.session(w.client(), etcdlock.WithLease(id))
	again, err := etcdlock.NewMutex(b, name).Lock(w.ctx())
	require.NoError(t, err)
	require.Equal(t, l.Key(), again.Key())
	require.Greater(t, again.Token(), l.Token())
	require.NoError(t, again.Unlock(w.ctx()))
}

// trap C6: etcd raises a TTL below its minimum, one and a half election timeouts.
func TestCoreTheMinimumOfTheTTLIsTold(t *testing.T) {
	w := newWorld(t)
	_, err := etcdlock.NewSession(w.ctx(), w.client(), etcdlock.WithTTL(time.Second))
	require.ErrorIs(t, err, etcdlock.ErrInvalidTTL)
	require.ErrorContains(t, err, "2s")
}

// trap A7, and the place in the line while members die: on a cluster of its own.
func TestCoreAPlaceSurvivesCompactionAndTheDeathOfMembers(t *testing.T) {
	w := newOwnWorld(t, etcdproc.Config{Size: 3})
	name := w.name("lock")
	holder := w.must(newOurMutex(w, w.client(), name))
	next := start(w.ctx(), newOurMutex(w, w.client(), name))
	w.waitForKeys(name, 2)
	e := etcdlock.NewElection(w.session(w.client()), w.name("election"))
	term, err := e.Campaign(w.ctx(), "a")
	require.NoError(t, err)

	for range 5 {
		_, err := w.admin.Put(w.ctx(), w.name("other"), "")
		require.NoError(t, err)
	}
	resp, err := w.admin.Delete(w.ctx(), w.name("other"))
	require.NoError(t, err)
	_, err = w.admin.Compact(w.ctx(), resp.Header.Revision)
	require.NoError(t, err)

	// The raft leader, whichever it is: kill -9 and start again.
	leader, err := w.cluster.Leader(w.ctx())
	require.NoError(t, err)
	m := w.cluster.Members[leader]
	m.Kill()
	require.NoError(t, m.Start())
	require.NoError(t, m.Ready(w.ctx()))
	w.waits(next, 200*time.Millisecond)
	select {
	case <-holder.ended:
		require.FailNow(t, "the hold is lost")
	default:
	}
	w.release(holder)
	second := w.granted(next)
	require.Greater(t, second.token, holder.token)
	w.release(second)
	require.NoError(t, term.Proclaim(w.ctx(), "b"))
	require.NoError(t, term.Resign(w.ctx()))
}
