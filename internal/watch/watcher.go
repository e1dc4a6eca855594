// Package watch opens watches on streams of its own.
//
// clientv3's Watcher serves each watch with a goroutine and takes each event through two
// more, so that a watch goes on by itself when its stream breaks, and for as long as its
// reader likes to be slow. Whoever reads again after each end of a watch needs neither: here
// a watch is a mailbox, one goroutine fills those of a whole stream, and a watch whose stream
// breaks, or whose reader is too slow, ends.
//
// All watches share a stream, until one of them finds that it may hang: those that come later
// get another one, which the client's balancer may put on another member.
package watch

import (
	"context"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Watcher is a client's Watcher that opens leaner watches besides.
type Watcher struct {
	clientv3.Watcher

	life   context.Context // no stream outlives it
	remote pb.WatchClient
	spawn  func(func()) bool // starts a goroutine, and owns it; false when it is too late for that

	// mu guards what follows, and all of the streams and the watches. It is never held across a
	// request.
	mu      sync.Mutex
	current *stream   // takes the watches to come; nil: there is none yet
	retired []*stream // those that do not any more, and still have watches; oldest first
	failed  int       // streams in a row that broke before they answered anything
}

// New makes a watcher that speaks to remote. It asks for nothing before the first watch. Its
// goroutines are started by spawn: two for each stream. There is one stream while any watch is
// open, and a few more after some of them hung.
func New(life context.Context, of clientv3.Watcher, remote pb.WatchClient, spawn func(func()) bool) *Watcher {
	return &Watcher{Watcher: of, life: life, remote: remote, spawn: spawn}
}

// mostRetired is how many streams that were left for another one are kept for the watches that they
// have. With one more the oldest ends, and its watches are opened again on the current one. So the
// number of streams does not grow with the faults that a long life meets.
const mostRetired = 3

// turns is how many times the bound a watch waits for its creation while those before it are
// answered, as when all of a stream that broke are opened anew.
const turns = 5

// Open watches a key, or a range, until Stop or the end of ctx, and returns once etcd has the
// watch. It returns nil when etcd refuses it, the stream breaks, ctx ends, or the stream
// answers nothing for as long as bound; then the next watch gets another stream. Of the
// options those count that are about what to watch, and from which revision on.
func (c *Watcher) Open(ctx context.Context, bound time.Duration, key string, opts ...clientv3.OpOption) *Watch {
	w := &Watch{events: make(chan clientv3.WatchResponse, 1)}
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
			w.detach = context.AfterFunc(ctx, w.stop)
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

// ask puts a watch on the current stream, or on a new one, which has answered so many before.
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
