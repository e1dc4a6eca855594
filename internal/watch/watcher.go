// Package watch opens watches on streams of its own.
//
// clientv3's Watcher has a goroutine for each watch, and passes each event through two more. So its
// watches continue when their stream breaks, and wait for a slow reader. A caller that reads again after the
// end of a watch needs neither. Here a watch is a channel, and one goroutine serves all watches of a
// stream. A watch ends when its stream breaks or its reader is too slow.
//
// All watches share one stream. If one of them finds that the stream may hang, later watches take another
// one, which the client's balancer may put on another member.
package watch

import (
	"context"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Watcher is a client's Watcher that also opens watches of this package.
type Watcher struct {
	clientv3.Watcher

	life   context.Context // no stream outlives it
	remote pb.WatchClient
	spawn  func(func()) bool // starts a goroutine and owns it; false after the end of the owner

	// mu guards the fields below, and those of all streams and watches. It is never held across a request.
	mu      sync.Mutex
	current *stream   // takes new watches; nil if there is none
	retired []*stream // streams that take no new watches and still have some; oldest first
	failed  int       // streams in a row that broke before they answered anything
}

// New returns a watcher that sends by remote. It sends nothing before the first watch. spawn starts its
// goroutines, two for each stream. There is one stream while any watch is open, and there are a few more
// after streams hung.
func New(life context.Context, of clientv3.Watcher, remote pb.WatchClient, spawn func(func()) bool) *Watcher {
	return &Watcher{Watcher: of, life: life, remote: remote, spawn: spawn}
}

// mostRetired is the number of retired streams that are kept for their watches. When there is one more, the
// oldest ends, and the users of its watches open them again on the current stream. So a long life with
// many faults does not end with many streams.
const mostRetired = 3

// turns is how many times the bound a creation waits while etcd answers those before it, as when all watches
// of a stream that broke are opened again.
const turns = 5

// Open opens a watch on a key or a range, which lasts until Stop or the end of ctx. It blocks until etcd has
// created the watch. It returns nil if etcd refuses it, the stream breaks, ctx ends, or the stream answers
// nothing for as long as bound. In the last case the next watch takes another stream. Of the options it
// heeds those that say what to watch, and from which revision.
func (c *Watcher) Open(ctx context.Context, bound time.Duration, key string, opts ...clientv3.OpOption) *Watch {
	return c.open(ctx, bound, &Watch{reader: &reader{events: make(chan clientv3.WatchResponse, 1)}}, key, opts...)
}

// OpenTo is Open for a watch that reports to a sink. It lasts until Stop: ctx bounds only the call.
func (c *Watcher) OpenTo(ctx context.Context, bound time.Duration, sink Sink, key string, opts ...clientv3.OpOption) *Watch {
	return c.open(ctx, bound, &Watch{sink: sink, reader: &reader{}}, key, opts...)
}

func (c *Watcher) open(ctx context.Context, bound time.Duration, w *Watch, key string, opts ...clientv3.OpOption) *Watch {
	a := &asked{watch: w, answered: make(chan struct{}), req: request(clientv3.OpWatch(key, opts...))}
	st, answers := c.ask(a)
	due := time.NewTimer(bound)
	defer due.Stop()
	for turn := 1; ; turn++ {
		select {
		case <-a.answered:
			if !w.created {
				return nil
			}
			if w.sink == nil {
				w.detach = context.AfterFunc(ctx, w.stop)
			}
			return w
		case <-ctx.Done():
			w.stop()
			return nil
		case <-due.C:
		}
		before := answers
		answers = st.heard()
		if answers == before {
			w.MoveOn()
		}
		if answers == before || turn == turns {
			w.stop()
			return nil
		}
		due.Reset(bound)
	}
}

// ask puts a watch on the current stream, or on a new one. answers is the number of creations that the
// stream has answered before.
func (c *Watcher) ask(a *asked) (st *stream, answers int) {
	c.mu.Lock()
	fresh := c.current == nil
	if fresh {
		c.current = newStream(c)
	}
	st = c.current
	st.take(a)
	answers = st.answers
	c.mu.Unlock()
	if fresh && !c.spawn(st.run) {
		st.over()
	}
	return st, answers
}

func request(op clientv3.Op) *pb.WatchCreateRequest {
	req := &pb.WatchCreateRequest{Key: op.KeyBytes(), RangeEnd: op.RangeBytes(), StartRevision: op.Rev(), PrevKv: op.IsPrevKV()}
	if op.IsFilterPut() {
		req.Filters = append(req.Filters, pb.WatchCreateRequest_NOPUT)
	}
	if op.IsFilterDelete() {
		req.Filters = append(req.Filters, pb.WatchCreateRequest_NODELETE)
	}
	return req
}
