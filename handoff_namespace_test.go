package etcdlock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/client/v3/namespace"
)

// Clients in a namespace, and one outside it that locks the same queue by its whole name, hand over to each other
// by messages. Lists have only the ends of keys.
func TestADirectHandoffAcrossTheEdgeOfANamespace(t *testing.T) {
	simulate(t, func(w *world) {
		var all []*pending[*Lock]
		for _, client := range []string{"a", "b", "c", "d"} {
			c, name := w.Client(client), "team/jobs"
			if client == "b" || client == "c" {
				c.KV, c.Watcher, c.Lease = namespace.NewKV(c.KV, "team/"), namespace.NewWatcher(c.Watcher, "team/"), namespace.NewLease(c.Lease, "team/")
				name = "jobs"
			}
			all = append(all, start(w, NewMutex(w.session(client, marks(), writeByKV(c)), name).Lock))
			w.pass(20 * time.Millisecond)
		}
		require.Equal(w, 4, w.inboxes("team/jobs"))
		last, began := int64(0), time.Now()
		for i, client := range []string{"a", "b", "c", "d"} {
			if i > 0 {
				w.Client(client).ResetCounts()
			}
			l := all[i].get()
			require.Greater(w, l.Token(), last)
			last = l.Token()
			if i > 0 {
				require.Zero(w, w.Client(client).Count(), "it has read nothing")
			}
			require.NoError(w, l.Unlock(w.ctx))
		}
		require.Less(w, time.Since(began), 100*time.Millisecond)
		w.allGone()
	})
}
