package queue

import (
	"context"
	"strconv"
	"time"

	"google.golang.org/grpc/metadata"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	lw "github.com/etcdlock/etcdlock/internal/watch"
)

// watch tells of what happens to a key, or to a range of them, from the watch's
// creation on.
//
// As a rule it has no start revision: etcd counts a watch that starts at a revision
// it has already reached as behind, and serves those from a 100 ms tick only. What
// happened before it was created must then be read after it was created.
type watch struct {
	of     *mvccpb.KeyValue // the entry that is watched, if it is one
	events clientv3.WatchChan
	cancel context.CancelFunc
	moveOn func() // says that it does not tell: the next ones go by another stream
	// cancelled tells whether etcd has ended the watch, as after a compaction. It is nil for a
	// watch by etcd's client.
	cancelled func() bool
	// since is a revision: of whatever comes after it the watch tells. So what stood at since, or
	// at a later revision, stands for as long as the watch tells nothing else.
	since int64
	// doubtful: the member that has the watch knows less than was known before. It lags, or it is
	// of another timeline, in which the watch may wait for a revision that is far away.
	doubtful bool

	header *pb.ResponseHeader // of the answer to its creation
}

// watchTimeout bounds the creation of a watch, which etcd does from memory. On a member that
// hangs it is never answered, and a look elsewhere must not wait for it.
const watchTimeout = time.Second

// mostGivenUp is how many watches by etcd's client that are given up are waited for, see openByClient.
const mostGivenUp = 16

// lean is a Watcher that opens watches which end where clientv3's go on by themselves: with
// their stream, and when they are not read from.
type lean interface {
	Open(ctx context.Context, bound time.Duration, key string, opts ...clientv3.OpOption) *lw.Watch
}

// open watches a key, or a range, and returns once etcd has the watch. It returns
// nil when that could not be had within watchTimeout, or ctx ended.
//
// The caller makes a linearizable request afterwards, which tells a doubtful watch of a member that
// lags from one of another timeline.
func (q *Queue) open(ctx context.Context, key string, opts ...clientv3.OpOption) *watch {
	known := q.tracker.Ask()
	w := q.openEither(ctx, key, opts...)
	if w != nil {
		w.doubtful = q.tracker.Doubts(known, w.header)
	}
	return w
}

func (q *Queue) openEither(ctx context.Context, key string, opts ...clientv3.OpOption) *watch {
	own, ok := q.watcher.(lean)
	if !ok || carries(ctx) {
		return q.openByClient(ctx, key, opts...)
	}
	w := own.Open(ctx, watchTimeout, key, opts...)
	if w == nil {
		return nil
	}
	return &watch{events: w.Events(), cancel: w.Stop, moveOn: w.MoveOn, cancelled: w.Cancelled, since: w.Since(), header: w.Header()}
}

// openByClient is open by the client, whose watches go on when their stream breaks.
//
// clientv3 forgets a watch whose context ends while etcd is being asked for it, and etcd keeps that
// watch until there is an event for it. So the context of the watch does not end before etcd has
// answered, or has not for watchTimeout. The goroutine that waits for that ends with it, or with the
// queue's life. clientv3 asks for one watch after the other: so only a few of those that are given
// up are waited for at a time.
func (q *Queue) openByClient(ctx context.Context, key string, opts ...clientv3.OpOption) *watch {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	opened, givenUp := make(chan *watch), make(chan struct{})
	defer close(givenUp)
	go func() {
		select {
		case opened <- q.create(life, cancel, key, opts):
		case <-givenUp:
			cancel()
			q.givenUp.Add(-1)
		}
	}()
	select {
	case w := <-opened:
		if w == nil {
			return nil
		}
		stop := context.AfterFunc(ctx, cancel)
		w.cancel = func() {
			stop()
			cancel()
		}
		return w
	case <-ctx.Done():
		if q.givenUp.Add(1) > mostGivenUp {
			cancel()
		}
		return nil
	}
}

// create asks for a watch that ends with life, and returns it once etcd has it. It returns nil,
// and ends life, when that could not be had within watchTimeout, or the queue's life ended.
func (q *Queue) create(life context.Context, cancel context.CancelFunc, key string, opts []clientv3.OpOption) *watch {
	moveOn := func() { q.stream.Add(1) }
	if n := q.stream.Load(); n > 0 {
		// The client has one stream for all watches with the same metadata.
		life = metadata.AppendToOutgoingContext(life, "etcdlock-stream", strconv.Itoa(int(n)))
	}
	bound := time.AfterFunc(watchTimeout, cancel)
	defer context.AfterFunc(q.life, cancel)()
	// Without the leader a member hears nothing more, and would say nothing
	// (trap A22).
	events := q.watcher.Watch(clientv3.WithRequireLeader(life), key, append(opts, clientv3.WithCreatedNotify())...)
	created, ok := <-events // closed when life ends
	late := !bound.Stop()
	if !ok || !created.Created || created.Err() != nil || late {
		if late && q.life.Err() == nil {
			moveOn() // it was not answered; the stream may hang on a member that does
		}
		cancel()
		return nil
	}
	since := lw.SinceOf(created.Header.GetRevision(), clientv3.OpWatch(key, opts...).Rev())
	return &watch{events: events, moveOn: moveOn, since: since, header: created.Header}
}

// carries tells whether a context has metadata for its requests, which a stream for all cannot
// have.
func carries(ctx context.Context) bool {
	_, ok := metadata.FromOutgoingContext(ctx)
	return ok
}

// openOn watches one entry.
func (q *Queue) openOn(ctx context.Context, of *mvccpb.KeyValue, opts ...clientv3.OpOption) *watch {
	w := q.open(ctx, string(of.Key), opts...)
	if w != nil {
		w.of = of
	}
	return w
}

// openLasting opens a watch that outlives ctx, if that has not ended by then.
func (q *Queue) openLasting(ctx context.Context, open func(life context.Context) *watch) *watch {
	life, cancel := context.WithCancel(q.life)
	stop := context.AfterFunc(ctx, cancel)
	w := open(life)
	if !stop() || w == nil {
		cancel()
		return nil
	}
	end := w.cancel
	w.cancel = func() {
		end()
		cancel()
	}
	return w
}

// on tells whether the watch is on this very incarnation of a key.
func (w *watch) on(kv *mvccpb.KeyValue) bool {
	return w != nil && same(w.of, kv)
}

// ch is the channel of events: nil, which blocks for ever, for no watch.
func (w *watch) ch() clientv3.WatchChan {
	if w == nil {
		return nil
	}
	return w.events
}

func (w *watch) stop() {
	if w != nil {
		w.cancel()
	}
}

// same tells whether two readings are of one entry. The key alone does not: a
// session that comes again uses the same one.
func same(a, b *mvccpb.KeyValue) bool {
	return a != nil && b != nil && a.CreateRevision == b.CreateRevision && string(a.Key) == string(b.Key)
}

// deleted tells whether the entry was deleted, for certain. A watch that breaks
// before its first event is taken up from the revision of its creation, that one
// included; so the revision is looked at.
func deleted(events []*clientv3.Event, e *Entry) bool {
	for _, ev := range events {
		if ev.Type == clientv3.EventTypeDelete && string(ev.Kv.Key) == e.Key && ev.Kv.ModRevision > e.CreateRevision {
			return true
		}
	}
	return false
}
