package queue

import (
	"testing"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// A cache that misses our key proves nothing, unless its watch has reported the deletion of this key.
func TestACacheThatMissesOurKeyIsNotBelieved(t *testing.T) {
	simulate(t, func(r *rig) {
		q := r.queue("a")
		e := r.enter(q)
		deletes := func(key string) []*clientv3.Event {
			return []*clientv3.Event{{Type: clientv3.EventTypeDelete, Kv: &mvccpb.KeyValue{Key: []byte(key), ModRevision: e.CreateRevision + 1}}}
		}
		c := q.newCache(q.from, q.end, true, waiting)
		defer c.close()
		c.snapshot = newSnapshot("q/", e.CreateRevision+1)
		c.events = deletes("q/another")
		shown, err := c.shows(r.ctx, e)
		require.NoError(r, err)
		require.True(r, shown)

		c.snapshot = newSnapshot("q/", e.CreateRevision+1)
		c.events = deletes(e.Key)
		_, err = c.shows(r.ctx, e)
		require.ErrorIs(r, err, lockerr.ErrEvicted)
	})
}
