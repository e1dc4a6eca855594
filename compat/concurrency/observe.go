package concurrency

import (
	"context"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	v3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/queue"
)

// Observe returns a channel that receives the leader's key and value, at once and after every change,
// in order. Each has the revision at which it was read. The other fields of the header are not set. A
// time without a leader is not sent. Observe needs only the client of the session, not its lease.
//
// The channel is closed when ctx or the client ends, or when etcd refuses the observation, for example
// because of a missing permission. It continues over lost watches and compactions, after which etcd's
// package closes the channel.
func (e *Election) Observe(ctx context.Context) <-chan *v3.GetResponse {
	out := make(chan *v3.GetResponse)
	go e.observe(ctx, out)
	return out
}

func (e *Election) observe(ctx context.Context, out chan<- *v3.GetResponse) {
	defer close(out)
	client := e.session.client
	life, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(client.Ctx(), cancel)()

	kv := etcdkv.KV(client)
	reader := etcdkv.NewWriter(etcdkv.WriterConfig{}) // for its policy of requests; it writes nothing
	queues := queue.NewQueues(queue.Config{Life: life, KV: kv, Writer: reader, Watcher: client.Watcher, Log: client.GetLogger()})
	q := queues.Queue(e.name)
	err := q.Follow(life, func(first *mvccpb.KeyValue, rev int64) bool {
		if first == nil {
			return true
		}
		resp := &v3.GetResponse{Header: &pb.ResponseHeader{Revision: rev}, Kvs: []*mvccpb.KeyValue{proto.CloneOf(first)}, Count: 1}
		select {
		case out <- resp:
			return true
		case <-life.Done():
			return false
		}
	})
	if err != nil && life.Err() == nil {
		client.GetLogger().Error("observation of the election has ended", zap.String("name", e.name), zap.Error(err))
	}
}
