package queue

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	lw "github.com/etcdlock/etcdlock/internal/watch"
)

// laggingWatches is a WatchClient of a member that reports, for each watch that it creates, a revision
// smaller than the present one.
type laggingWatches struct {
	pb.WatchClient
	by int64
}

type laggingStream struct {
	pb.Watch_WatchClient
	by int64
}

func (l *laggingWatches) Watch(ctx context.Context, opts ...grpc.CallOption) (pb.Watch_WatchClient, error) {
	st, err := l.WatchClient.Watch(ctx, opts...)
	if err != nil {
		return nil, err
	}
	return &laggingStream{st, l.by}, nil
}

func (l *laggingStream) Recv() (*pb.WatchResponse, error) {
	resp, err := l.Watch_WatchClient.Recv()
	if err != nil || !resp.Created {
		return resp, err
	}
	resp = proto.Clone(resp).(*pb.WatchResponse)
	resp.Header.Revision -= l.by
	return resp, nil
}

// report R5: a watch that a member has at a smaller revision than was known before may be of
// another timeline. A linearizable request tells. Where one follows anyway, a member that lags
// costs no further request: of three members one often lags for a moment.
func TestAMemberThatLagsCostsARequestOnlyWhereNoneFollows(t *testing.T) {
	type scene struct {
		*rig
		other, q *Queue
		held     *Entry // of other
	}
	await := func(s *scene) {
		got := s.await(s.q, s.enter(s.q))
		time.Sleep(500 * time.Millisecond)
		require.Empty(s, got)
		require.NoError(s, s.other.Leave(s.ctx, s.held, false))
		require.NoError(s, (<-got).err)
	}
	of := func(e *Entry) *mvccpb.KeyValue {
		return &mvccpb.KeyValue{Key: []byte(e.Key), CreateRevision: e.CreateRevision, Lease: int64(e.Lease)}
	}
	for name, c := range map[string]struct {
		run  func(s *scene)
		more int // requests than with a member that does not lag
	}{
		"a wait": {run: await},
		"a wait in a long queue": {run: func(s *scene) {
			s.q.shortQueue = -1
			await(s)
		}},
		"a wait for the end of another entry": {run: func(s *scene) {
			time.AfterFunc(500*time.Millisecond, func() { s.DeleteKey(s.held.Key) })
			require.NoError(s, s.q.AwaitGone(s.ctx, of(s.held)))
		}},
		"a hold, whose watch needs no look": {more: 1, run: func(s *scene) {
			s.DeleteKey(s.held.Key)
			e := s.enter(s.q)
			ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
			defer cancel()
			require.ErrorIs(s, s.q.stay(ctx, e, nil, func() {}), context.DeadlineExceeded)
		}},
		"the keys under a prefix": {run: func(s *scene) {
			ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
			defer cancel()
			require.Error(s, s.q.FollowBeside(ctx, "q/", nil, func([]*mvccpb.KeyValue) error { return nil }))
		}},
		"the changes of a key": {more: 1, run: func(s *scene) {
			time.AfterFunc(500*time.Millisecond, func() { s.DeleteKey(s.held.Key) })
			s.q.Changes(s.ctx, s.held.Key, s.Revision()+1, func(*clientv3.Event) bool { return false })
		}},
		"an observer, whose second watch goes on from the first": {more: 1, run: func(s *scene) {
			ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
			defer cancel()
			time.AfterFunc(500*time.Millisecond, s.Client("q").Reset)
			require.Error(s, s.q.Follow(ctx, func(*mvccpb.KeyValue, int64) bool { return true }))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var requests [2]int
			for lag := range requests {
				simulate(t, func(r *rig) {
					client := r.Client("q")
					watcher := lw.New(r.ctx, client.Watcher, &laggingWatches{client.Remote(), int64(lag)}, func(f func()) bool { go f(); return true })
					s := &scene{rig: r, other: r.queue("other"), q: newQueues(r.ctx, client.KV, watcher).Queue("q")}
					defer s.q.Close()
					s.held = r.enter(s.other)
					_, err := s.q.First(r.ctx) // it knows the present revision
					require.NoError(t, err)
					client.ResetCounts()
					c.run(s)
					requests[lag] = client.Count(simetcd.Range, simetcd.Txn, simetcd.TxnReadOnly)
					require.Positive(t, client.Count(simetcd.Watch))
				})
			}
			require.Equal(t, c.more, requests[1]-requests[0], "requests: %v", requests)
		})
	}
}
