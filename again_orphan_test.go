package etcdlock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// The request of a release was lost, and its repetition has deleted the key. So the first one can write no entry
// any more, and there is nothing to wait for.
func TestOrphanDoesNotWaitForTheEntryOfALostRelease(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a", marks())
		m := NewMutex(s, "m", WithTimeSlice(0))
		held, second := w.lock(m), start(w, m.Lock)
		w.pass(time.Millisecond)
		next := start(w, NewMutex(w.session("b", marks()), "m").Lock)
		w.pass(10 * time.Millisecond)
		w.next("a", simetcd.Txn, simetcd.Action{Err: rpctypes.ErrGRPCNoLeader})
		require.NoError(w, held.Unlock(w.ctx))
		l := next.get()
		began := time.Now()
		w.orphan(s)
		require.Less(w, time.Since(began), time.Second)
		second.fails()
		require.NoError(w, l.Unlock(w.ctx))
	})
}
