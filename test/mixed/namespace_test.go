package mixed

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/namespace"

	"github.com/etcdlock/etcdlock"
)

// in returns a client that adds a prefix to all keys.
func (w *world) in(prefix string) *clientv3.Client {
	c := w.client()
	c.KV = namespace.NewKV(c.KV, prefix)
	c.Watcher = namespace.NewWatcher(c.Watcher, prefix)
	c.Lease = namespace.NewLease(c.Lease, prefix)
	return c
}

func TestLocksOfTwoNamespacesDoNotSeeOneAnother(t *testing.T) {
	w := newWorld(t)
	a, b, plain := w.in(w.name("a/")), w.in(w.name("b/")), w.client()
	inA, inB := w.must(newOurMutex(w, a, "lock")), w.must(newOurMutex(w, b, "lock"))
	require.Equal(t, "lock/"+etcdHex(inA.lease), inA.key, "as seen from inside")
	require.Equal(t, []string{w.name("a/lock/") + etcdHex(inA.lease)}, w.keys(w.name("a/lock")))
	require.Equal(t, []string{w.name("b/lock/") + etcdHex(inB.lease)}, w.keys(w.name("b/lock")))

	// From outside it is the lock of the longer name.
	_, err := etcdlock.NewMutex(w.session(plain), w.name("a/lock")).TryLock(w.ctx())
	require.ErrorIs(t, err, etcdlock.ErrLocked)
	outside := start(w.ctx(), newOurMutex(w, plain, w.name("a/lock")))
	w.waitForKeys(w.name("a/lock"), 2)
	w.release(inA)
	w.release(w.granted(outside))
	w.release(inB)

	// trap A14: names nest over the border of a namespace too.
	inA = w.must(newOurMutex(w, a, "lock"))
	_, err = etcdlock.NewMutex(w.session(plain), w.name("a")).TryLock(w.ctx())
	require.ErrorIs(t, err, etcdlock.ErrNestedName)
	w.release(inA)
}

// Each of them goes through the client's KV, Lease and Watcher, whatever these are.
func TestEverythingWorksInsideANamespace(t *testing.T) {
	w := newWorld(t)
	prefix := w.name("ns/")
	first := w.must(newOurMutex(w, w.in(prefix), "lock"))
	s, err := concurrency.NewSession(w.in(prefix), concurrency.WithTTL(int(ttl/time.Second)))
	require.NoError(t, err)
	defer s.Close()
	theirs := concurrency.NewMutex(s, "lock")
	require.ErrorIs(t, theirs.TryLock(w.ctx()), concurrency.ErrLocked)
	next := start(w.ctx(), newOurMutex(w, w.in(prefix), "lock"))
	w.waitForKeys(prefix+"lock", 2)
	w.waits(next, ttl/2) // renewals come by, and watches are open
	w.release(first)
	second := w.granted(next)
	require.Greater(t, second.token, first.token)
	w.release(second)
	require.NoError(t, theirs.Lock(w.ctx()))
	require.Greater(t, theirs.Header().Revision, second.token)
	require.NoError(t, theirs.Unlock(w.ctx()))

	w.shared(w.in(prefix), "x")
	ours := w.session(w.in(prefix))
	e := etcdlock.NewElection(ours, "election")
	onlooker := etcdlock.NewElection(w.session(w.in(prefix)), "election")
	seen := make(chan string, 10)
	go func() {
		for leader, err := range onlooker.Observe(w.ctx()) {
			if err == nil {
				seen <- leader.Value
			}
		}
	}()
	require.Empty(t, receive(t, seen, "a vacancy"))
	term, err := e.Campaign(w.ctx(), "a")
	require.NoError(t, err)
	require.Equal(t, "a", receive(t, seen, "the leader"))
	leader, err := e.Leader(w.ctx())
	require.NoError(t, err)
	require.Equal(t, term.Key(), leader.Key)
	require.NoError(t, term.Proclaim(w.ctx(), "b"))
	require.Equal(t, "b", receive(t, seen, "what it proclaims"))
	// A guarded write goes through the same client.
	resp, err := ours.Client().Txn(w.ctx()).If(term.Guard()).Then(clientv3.OpGet("any")).Commit()
	require.NoError(t, err)
	require.True(t, resp.Succeeded)
	// An operator deletes the key.
	_, err = w.admin.Delete(w.ctx(), prefix+term.Key())
	require.NoError(t, err)
	receiveClosed(t, term.Done(), "the end of the term")
	require.ErrorIs(t, term.Err(), etcdlock.ErrEvicted)
	require.Empty(t, receive(t, seen, "a vacancy"))
	l, err := etcdlock.NewMutex(ours, "lock", etcdlock.WithRetention(time.Minute)).TryLock(w.ctx())
	require.NoError(t, err)
	entries, err := etcdlock.NewMutex(ours, "lock").Queue(w.ctx())
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Equal(t, l.Key(), entries[0].Key)
	require.NoError(t, l.Unlock(w.ctx()))
}
