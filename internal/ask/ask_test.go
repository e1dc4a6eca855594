package ask

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// A former process had numbers of its own under the lease that this process goes on with.
func TestNoRequestGetsTheNumberOfOneThatAFormerProcessPosted(t *testing.T) {
	const lease clientv3.LeaseID = 0x1f
	s := New(Config{})
	_, cancel := context.WithCancelCause(context.Background())
	require.Equal(t, 1, s.add(cancel))
	key := Prefix("m") + wire.Hex(lease)
	require.False(t, s.OfOthers(key+".1", lease), "a call of this process has posted it")
	require.False(t, s.OfOthers(key+".7", lease+1), "another lease")
	require.False(t, s.OfOthers("m/1f.7", lease), "an entry")
	require.True(t, s.OfOthers(key+".7", lease))
	require.Equal(t, 8, s.add(cancel))
}

func TestCancelEndsEachCall(t *testing.T) {
	s := New(Config{})
	ctx, cancel := context.WithCancelCause(context.Background())
	id := s.add(cancel)
	require.Equal(t, 1, s.Cancel(lockerr.ErrOrphaned))
	require.ErrorIs(t, context.Cause(ctx), lockerr.ErrOrphaned)
	s.remove(id)
	require.Zero(t, s.Cancel(lockerr.ErrOrphaned))
}
