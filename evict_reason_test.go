package etcdlock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/eviction"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// evict deletes a key as "etcdlock evict --reason" does.
func (w *world) evict(key string, createRevision int64, reason string) {
	w.Helper()
	client := w.Client("operator")
	lease, err := client.Grant(w.ctx, int64(eviction.Kept/time.Second))
	require.NoError(w, err)
	name, _ := wire.NameOf(key)
	put, err := eviction.Notice{Reason: reason, Owner: "alice", Host: "ops-1", Key: key, CreateRevision: createRevision}.Put(name, lease.ID)
	require.NoError(w, err)
	_, err = client.Txn(w.ctx).Then(put, clientv3.OpDelete(key)).Commit()
	require.NoError(w, err)
}

func TestTheErrorOfAnEvictionHasItsReason(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		const reason = `lost: another client deleted its key: "hangs" (by "alice on ops-1")`
		lock := w.lock(NewMutex(s, "m"))
		w.evict(lock.Key(), lock.CreateRevision(), "hangs")
		<-lock.Done()
		require.ErrorIs(w, lock.Err(), ErrEvicted)
		require.EqualError(w, lock.Err(), reason)

		set := w.lockAll(s, "x", "y")
		w.evict(set.Keys()[1], set.hold.of.EntryOf("y").CreateRevision, "hangs")
		<-set.Done()
		require.EqualError(w, set.Err(), reason)

		w.lock(NewMutex(w.session("b"), "m"))
		waits := start(w, NewMutex(s, "m").Lock)
		waits.isWaiting()
		w.pass(time.Second)
		for _, kv := range w.Keys("m/") {
			if clientv3.LeaseID(kv.Lease) == s.Lease() {
				w.evict(string(kv.Key), kv.CreateRevision, "hangs")
			}
		}
		_, err := waits.result()
		require.ErrorIs(w, err, ErrEvicted)
		require.ErrorContains(w, err, reason)

		again := w.lock(NewMutex(s, "x")) // the notice is of another entry
		w.DeleteKey(again.Key())
		<-again.Done()
		require.EqualError(w, again.Err(), "lost: another client deleted its key")
		w.pass(2 * eviction.Kept)
		require.Empty(w, w.Keys("x\x00"))
		require.Empty(w, w.Keys("m\x00"))
	})
}
