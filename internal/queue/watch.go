package queue

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/metadata"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/timeline"
	lw "github.com/etcdlock/etcdlock/internal/watch"
)

// watch is a watch on a key or a range of keys.
//
// Most watches have no start revision. etcd serves a watch that starts at a revision of the past by
// a tick of 100 ms. So the state before a watch is read after the watch was created.
type watch struct {
	handle
	of      *mvccpb.KeyValue   // the entry that is watched; nil for a range
	reports clientv3.WatchChan // nil for a watch that reports to a sink
	// since is a revision after which the watch reports everything. An entry that stood at since or
	// later stands until the watch reports otherwise.
	since int64
	// doubtful is true if the member that has the watch knows a smaller revision than was known before.
	// It lags, or it is in another timeline, where the watch may wait for a revision that is far away.
	doubtful bool
}

// handle is a watch of package watch, or of etcd's client.
type handle interface {
	Stop()
	MoveOn()         // makes the next watches take another stream
	Cancelled() bool // true if no other watch can continue where this one ended, as after a compaction
}

// watchTimeout bounds the creation of a watch, for which etcd needs memory only. A member that hangs
// never answers.
const watchTimeout = time.Second

// aheadTimeout bounds the creation of a watch before the entry is written, because a stream may hang.
const aheadTimeout = 100 * time.Millisecond

// mostGivenUp is the number of creations that continue after they were given up, see openByClient.
const mostGivenUp = 16

// lean is a Watcher. Its watches end with their stream, and when their reader is slow. The watches of
// clientv3 continue by themselves.
type lean interface {
	Open(ctx context.Context, bound time.Duration, key string, opts ...clientv3.OpOption) *lw.Watch
	OpenTo(ctx context.Context, bound time.Duration, sink lw.Sink, key string, opts ...clientv3.OpOption) *lw.Watch
}

// watching is how the queues of a session open watches.
type watching struct {
	life    context.Context // ends the watches
	watcher clientv3.Watcher
	tracker *timeline.Tracker
	givenUp atomic.Int32 // number of creations of watches that continue after they were given up, see openByClient
	hung    atomic.Int32 // number of the stream of watches by etcd's client; it grows when the stream hangs
}

// open opens a watch on a key or a range. It blocks until etcd has created the watch. It returns nil
// if etcd refuses it or has not answered within watchTimeout, or if ctx ends.
//
// If the watch is doubtful, the caller sends a linearizable request afterwards. The answer shows
// whether the member lags or is in another timeline.
func (o *watching) open(ctx context.Context, key string, opts ...clientv3.OpOption) *watch {
	return o.openTo(ctx, nil, key, opts...)
}

// openTo is open for a watch that reports to a sink. A watch by etcd's client has a channel nevertheless.
func (o *watching) openTo(ctx context.Context, sink lw.Sink, key string, opts ...clientv3.OpOption) *watch {
	own, ok := o.watcher.(lean)
	if !ok || carries(ctx) {
		return o.openByClient(ctx, key, opts...)
	}
	known := o.tracker.Ask()
	var w *lw.Watch
	if sink != nil {
		if w = own.OpenTo(ctx, watchTimeout, sink, key, opts...); w != nil {
			defer w.Forget()
		}
	} else {
		w = own.Open(ctx, watchTimeout, key, opts...)
	}
	if w == nil {
		return nil
	}
	return &watch{handle: w, reports: w.Events(), since: w.Since(), doubtful: o.tracker.Doubts(known, w.Header())}
}

// openByClient is open by etcd's client. Its watches continue when their stream breaks.
//
// clientv3 forgets a watch if its context ends during the creation, and etcd keeps that watch until it
// has an event for it. So the context of the watch does not end before etcd has answered, or
// watchTimeout has passed. The goroutine that waits for this ends with it, or with the life of the
// queue. clientv3 creates one watch after the other, so only mostGivenUp creations continue after their
// callers gave up.
func (o *watching) openByClient(ctx context.Context, key string, opts ...clientv3.OpOption) *watch {
	stream := o.hung.Load()
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	opened, givenUp := make(chan *watch), make(chan struct{})
	defer close(givenUp)
	go func() {
		select {
		case opened <- o.create(life, cancel, stream, key, opts):
		case <-givenUp:
			cancel()
			o.givenUp.Add(-1)
		}
	}()
	select {
	case w := <-opened:
		if w == nil {
			return nil
		}
		stop := context.AfterFunc(ctx, cancel)
		w.handle = &clientWatch{opener: o, stream: stream, cancel: func() { stop(); cancel() }}
		return w
	case <-ctx.Done():
		if o.givenUp.Add(1) > mostGivenUp {
			cancel()
		}
		return nil
	}
}

// create creates a watch that ends with life. It blocks until etcd has answered. It returns nil, and
// ends life, if etcd refuses or has not answered within watchTimeout, or if the life of the queue ends.
func (o *watching) create(life context.Context, cancel context.CancelFunc, stream int32, key string, opts []clientv3.OpOption) *watch {
	if stream > 0 {
		// clientv3 has one stream for all watches with the same metadata.
		life = metadata.AppendToOutgoingContext(life, "etcdlock-stream", strconv.Itoa(int(stream)))
	}
	known := o.tracker.Ask()
	bound := time.AfterFunc(watchTimeout, cancel)
	defer context.AfterFunc(o.life, cancel)()
	// A member without a leader learns of no changes, and would report none (trap A22).
	events := o.watcher.Watch(clientv3.WithRequireLeader(life), key, append(opts, clientv3.WithCreatedNotify())...)
	created, ok := <-events // closed when life ends
	late := !bound.Stop()
	if !ok || !created.Created || created.Err() != nil || late {
		if late && o.life.Err() == nil {
			o.moveOn(stream) // it may lead to a member that hangs
		}
		cancel()
		return nil
	}
	since := lw.SinceOf(created.Header.GetRevision(), clientv3.OpWatch(key, opts...).Rev())
	return &watch{reports: events, since: since, doubtful: o.tracker.Doubts(known, created.Header)}
}

// moveOn makes the next watches by etcd's client take another stream than this one.
func (o *watching) moveOn(stream int32) { o.hung.CompareAndSwap(stream, stream+1) }

// clientWatch is a watch by etcd's client, which tells no reason of an end.
type clientWatch struct {
	opener *watching
	stream int32
	cancel context.CancelFunc
}

func (w *clientWatch) Stop()         { w.cancel() }
func (w *clientWatch) MoveOn()       { w.opener.moveOn(w.stream) }
func (*clientWatch) Cancelled() bool { return true }

// carries reports whether a context has metadata for its requests. A shared stream cannot have them.
func carries(ctx context.Context) bool {
	_, ok := metadata.FromOutgoingContext(ctx)
	return ok
}

// openOn opens a watch on one entry.
func (o *watching) openOn(ctx context.Context, of *mvccpb.KeyValue, opts ...clientv3.OpOption) *watch {
	w := o.open(ctx, string(of.Key), opts...)
	if w != nil {
		w.of = of
	}
	return w
}

// openLasting opens a watch that outlives ctx, unless ctx ends before the watch is open.
func (o *watching) openLasting(ctx context.Context, open func(life context.Context) *watch) *watch {
	life, cancel := context.WithCancel(o.life)
	stop := context.AfterFunc(ctx, cancel)
	w := open(life)
	if !stop() || w == nil {
		cancel()
		return nil
	}
	w.handle = &lasting{w.handle, cancel}
	return w
}

// lasting is a watch with a context of its own, which ends with it.
type lasting struct {
	handle
	cancel context.CancelFunc
}

func (w *lasting) Stop() {
	w.handle.Stop()
	w.cancel()
}

// on reports whether the watch was opened for this entry, and not for another one with the same key.
func (w *watch) on(kv *mvccpb.KeyValue) bool {
	return w != nil && same(w.of, kv)
}

// ch returns the channel of events. It is nil, and blocks, if there is no watch.
func (w *watch) ch() clientv3.WatchChan {
	if w == nil {
		return nil
	}
	return w.reports
}

func (w *watch) stop() {
	if w != nil {
		w.Stop()
	}
}

// same reports whether two readings are of one entry. A session that comes again uses the same key.
func same(a, b *mvccpb.KeyValue) bool {
	return a != nil && b != nil && a.CreateRevision == b.CreateRevision && string(a.Key) == string(b.Key)
}
