package queue

import (
	"context"
	"sync/atomic"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/timeline"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Queues makes the queues of one session. It sends nothing until a method with a context is called. It
// is safe for concurrent use.
type Queues struct{ *shared }

// Config is what NewQueues needs.
type Config struct {
	Life    context.Context  // ends the watches
	KV      clientv3.KV      // sends reads; timeline.Of has its tracker
	Writer  *etcdkv.Writer   // sends writes, by the same KV
	Watcher clientv3.Watcher // opens watches
	Log     *zap.Logger

	// ShortQueue and Prefetch are set by tests, which make a short queue behave like a long one. 0 stands
	// for the constants ShortQueue and peek.
	ShortQueue int
	Prefetch   int64
}

// shared is what all queues of a session share.
type shared struct {
	life       context.Context
	kv         clientv3.KV
	writer     *etcdkv.Writer
	watcher    clientv3.Watcher
	tracker    *timeline.Tracker
	log        *zap.Logger
	shortQueue int
	prefetch   int64
	givenUp    atomic.Int32 // number of creations of watches that continue after they were given up, see openByClient
}

// NewQueues returns the queues of one session.
func NewQueues(c Config) *Queues {
	kv, tracker := timeline.Of(c.KV)
	s := &shared{
		life: c.Life, kv: kv, writer: c.Writer, watcher: c.Watcher, tracker: tracker, log: c.Log,
		shortQueue: ShortQueue, prefetch: peek,
	}
	if c.ShortQueue != 0 {
		s.shortQueue = c.ShortQueue
	}
	if c.Prefetch != 0 {
		s.prefetch = c.Prefetch
	}
	return &Queues{s}
}

// Queue returns the queue of a name that wire.CheckName accepts.
func (s *Queues) Queue(name string) *Queue {
	from, end := wire.Range(name)
	return &Queue{shared: s.shared, timeline: s.tracker.Number(), name: name, from: from, end: end}
}

// Set returns a set of the queues of different names. The slots are the keys of the set among those
// that the session can have in each queue.
func (s *Queues) Set(names []string, slots []wire.Slot) *Set {
	set := &Set{shared: s.shared, slots: slots}
	for _, name := range names {
		set.queues = append(set.queues, s.Queue(name))
	}
	return set
}

// retry sends a request of the session until etcd gives an answer that counts, or ctx ends. Every
// request of this package can be sent twice, because a write is guarded by what the first try changes.
func (s *shared) retry(ctx context.Context, seed int64, try func(context.Context) error) (unanswered bool, err error) {
	return etcdkv.Retry(ctx, s.writer.Requests(seed), try)
}

// ask is retry for a request that has a value for an answer.
func ask[T any](ctx context.Context, s *shared, seed int64, try func(context.Context) (T, error)) (answer T, err error) {
	_, err = s.retry(ctx, seed, func(ctx context.Context) (err error) {
		answer, err = try(ctx)
		return err
	})
	return answer, err
}
