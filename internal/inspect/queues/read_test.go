package queues

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// A process obtains its lease, and enters a queue, while the keys are read. A watch from the revision
// of the read on would never tell of this entry.
func TestALeaseOfWhileTheKeysAreReadIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := simetcd.New(simetcd.Config{Seed: 1})
		defer etcd.Close()
		var once sync.Once
		etcd.Intercept(func(c simetcd.Call) simetcd.Action {
			if c.Kind == simetcd.Range {
				once.Do(func() {
					lease := etcd.GrantLease(time.Hour)
					etcd.PutKey(wire.Key("x", lease), "", lease)
				})
			}
			return simetcd.Action{}
		})
		s, err := All(t.Context(), etcd.Client("a").Client, "")
		require.NoError(t, err)
		require.Len(t, s.Queues, 1)
	})
}
