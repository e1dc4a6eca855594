package etcdlock

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// etcd is restored from a backup in which another one holds. The last holder's release tells the next one
// that it holds. Its token would be smaller, and the key of the earlier holder stands again.
func TestAMessageOfARestoredEtcdGrantsNothing(t *testing.T) {
	for _, own := range []bool{false, true} {
		for _, knows := range []bool{false, true} {
			for _, after := range []time.Duration{0, 2 * time.Millisecond, 200 * time.Millisecond} {
				t.Run(fmt.Sprintf("own streams %v, knows the revision %v, %v", own, knows, after), func(t *testing.T) {
					simulate(t, func(w *world) { releaseAfterRollback(w, own, knows, after) })
				})
			}
		}
	}
}

func releaseAfterRollback(w *world, own, knows bool, after time.Duration) {
	open := func(client string) *Session {
		opts := []SessionOption{
			WithTTL(time.Minute), sessionOptionFunc(func(c *sessionConfig) { c.Hooks.Crowd = -1 }), // all entries are marked
		}
		if own {
			opts = append(opts, watchOn(w.Client(client)))
		}
		return w.session(client, opts...)
	}
	a, b, c := open("a"), open("b"), open("c")
	first := w.lock(NewMutex(a, "m"))
	second := start(w, NewMutex(b, "m").Lock)
	second.isWaiting()
	w.pass(10 * time.Millisecond)
	third := start(w, NewMutex(c, "m").Lock)
	third.isWaiting()
	w.pass(10 * time.Millisecond)
	backup := w.Snapshot()
	for range 100 {
		w.PutKey("other", "x", clientv3.NoLease)
	}
	if knows {
		require.NoError(w, w.lock(NewMutex(c, "elsewhere")).Unlock(w.ctx))
	}
	require.NoError(w, first.Unlock(w.ctx))
	l := second.get()
	r := rollback{w: w, snap: backup}
	r.happensAtOnce()
	w.pass(after)
	_ = l.Unlock(w.ctx) // it may know of the restore
	synctest.Wait()
	w.pass(20 * time.Millisecond)
	select {
	case <-third.done:
		require.Error(w, third.err)
	default:
	}
}
