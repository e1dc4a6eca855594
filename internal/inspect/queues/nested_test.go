package queues

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Inboxes and successor keys beside names inside a name are no entries of its queue, for any reader of it.
func TestWhatLiesBesideNamesInsideANameIsNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd := simetcd.New(simetcd.Config{Seed: 1})
		defer etcd.Close()
		client, lease := etcd.Client("a").Client, etcd.GrantLease(time.Hour)
		beside := func() {
			for _, inner := range []string{"x/", "x/ ", "x/1", "x/y/z"} {
				etcd.PutKey(wire.InboxKey(inner, lease), "", lease)
				etcd.PutKey(wire.SuccessorKey(inner, lease), "", lease)
			}
		}
		beside()
		own := wire.Key("x", lease)
		etcd.PutKey(own, "", lease)
		shown := etcd.Revision()
		beside()

		all, err := All(t.Context(), client, "")
		require.NoError(t, err)
		require.Len(t, all.Queues, 1)
		require.Empty(t, all.Others)
		one, _, err := One(t.Context(), client.KV, "x")
		require.NoError(t, err)
		at, err := At(t.Context(), client.KV, "x", shown)
		require.NoError(t, err)
		some, err := First(t.Context(), client.KV, "x", 50)
		require.NoError(t, err)
		for _, q := range []Queue{all.Queues[0], one, at, some} {
			require.Len(t, q.Entries, 1)
			require.Equal(t, own, q.Entries[0].Key)
			require.True(t, q.Entries[0].Holds)
		}

		var changes, events atomic.Int32
		go func() { _ = Follow(t.Context(), client, "x", func(Change) error { changes.Add(1); return nil }) }()
		go func() { _ = Audit(t.Context(), client, "x", 0, func(Audited) error { events.Add(1); return nil }) }()
		time.Sleep(time.Second)
		require.Equal(t, []int32{1, 1}, []int32{changes.Load(), events.Load()})
		beside()
		etcd.DeleteKey(wire.InboxKey("x/1", lease))
		time.Sleep(time.Second)
		require.Equal(t, []int32{1, 1}, []int32{changes.Load(), events.Load()})
	})
}
