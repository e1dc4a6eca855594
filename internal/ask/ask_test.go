package ask

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
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

// A client that posts again and again made the memory of a holder grow for as long as it held.
func TestAHearingRemembersOnlyTheRequestsThatStand(t *testing.T) {
	of := &queue.Entry{Key: "m/1f", CreateRevision: 3}
	var told []string
	h := newHearing("m", of, func(r Request, first bool) bool {
		told = append(told, fmt.Sprint(r.Reason, " ", first))
		return r.Reason != "later"
	})
	request := func(key, reason string, rev int64) *mvccpb.KeyValue {
		return &mvccpb.KeyValue{Key: []byte(Prefix("m") + key), CreateRevision: rev, Value: []byte(`{"reason":"` + reason + `","of":[{"key":"m/1f","rev":3}]}`)}
	}
	for rev := range int64(1000) {
		h.hear([]*mvccpb.KeyValue{request(fmt.Sprint(rev), "now", rev+10)})
	}
	require.Len(t, told, 1000)
	require.Len(t, h.received, 1)

	synctest.Test(t, func(t *testing.T) {
		told = nil
		all := []*mvccpb.KeyValue{
			request("a", "now", 2000), request("b", "later", 2001),
			{Key: []byte("m\x00resigns/1f.1"), CreateRevision: 2002, Value: []byte(`{"reason":"another kind","of":[{"key":"m/1f","rev":3}]}`)},
		}
		h.hear(all)
		h.hear(all)
		require.Equal(t, []string{"now true", "later true"}, told)
		for want, pause := range []time.Duration{firstAgain, 2 * firstAgain, 4 * firstAgain} {
			require.Equal(t, pause, h.hear(all))
			time.Sleep(pause)
			h.hear(all)
			require.Len(t, told, want+3)
			require.Equal(t, "later false", told[want+2])
		}
		h.hear(nil)
		require.Empty(t, h.received)
		h.hear([]*mvccpb.KeyValue{request("a", "now", 2100)})
		require.Equal(t, "now true", told[5], "another request under the same key")
	})
}
