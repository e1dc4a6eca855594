package queue

import (
	"cmp"
	"context"

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
	// Crowd is the mean length of a queue above which entries are marked, see turn.go. 0 stands for the
	// constant crowd. It is set by tests. A negative one has all plain entries marked.
	Crowd int64
}

// NewQueues returns the queues of one session.
func NewQueues(c Config) *Queues {
	kv, tracker := timeline.Of(c.KV)
	s := &shared{
		watching: &watching{life: c.Life, watcher: c.Watcher, tracker: tracker}, kv: kv, writer: c.Writer, log: c.Log,
		shortQueue: cmp.Or(c.ShortQueue, ShortQueue), prefetch: cmp.Or(c.Prefetch, peek), crowd: cmp.Or(c.Crowd, crowd),
	}
	return &Queues{s}
}

// Queue returns the queue of a name that wire.CheckName accepts.
func (s *Queues) Queue(name string) *Queue {
	q := &Queue{line: *s.line(name), timeline: s.tracker.Number()}
	q.of = &q.line
	return q
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
