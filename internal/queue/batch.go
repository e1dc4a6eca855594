package queue

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/answer"
	"github.com/etcdlock/etcdlock/internal/sharedtimer"
	"github.com/etcdlock/etcdlock/internal/timeline"
)

// Writer sends the writes of one session. Those of different names that come while
// others are under way travel together, as the parts of one transaction: each keeps its
// own comparisons and its own outcome, and etcd commits all of them to disk at once.
//
// Nothing waits for a batch to fill: a write goes out at once, alone, while fewer than
// its lanes are under way, and otherwise with the next one that does.
type Writer struct {
	life  context.Context // no transaction outlives it
	kv    clientv3.KV
	spawn func(func()) bool // starts a goroutine, and owns it; false when it is too late for that
	lanes int

	// Timeline is shown what etcd answers.
	Timeline *timeline.Tracker

	// Direct sends a transaction as kv does, without the copies that are made of it there; nil if
	// that cannot be. Its answers are shown to Timeline.
	Direct func(context.Context, *pb.TxnRequest) (*pb.TxnResponse, error)

	patience *sharedtimer.Queue // with the first tries of a request
	contexts *sharedtimer.Pool
	slow     *sharedtimer.Queue // with a transaction that has a lane
	resting  *sharedtimer.Queue // of queues
	// Few and Peek are for tests that want to see in a short queue what else happens in a long
	// one only.
	Few  int   // see there
	Peek int64 // how many entries are read, see peeking
	// Pace is called before each write, for tests: of those that come at one instant
	// chance would pick which goes first.
	Pace func(ctx context.Context, name string)

	givenUp atomic.Int32 // watches that are waited for, see openByClient

	mu      sync.Mutex
	flying  int      // transactions under way, but for the slow ones
	aloft   []*lane  // theirs
	most    int      // how many writes may travel together
	lengthy int      // for how many batches none of them is brief
	waiting []*write // for the next one
}

const (
	// Lanes is how many transactions of a session may be under way at once. Few, so that
	// many writes travel together when there are many; more than one, so that a pair of
	// goroutines does not wait for each other. With 256 callers three get a sixth more through
	// than two, and four no more.
	Lanes = 3
	// most is how many writes travel in one transaction. The server's limit is 128
	// operations by default, those of the transaction and of its largest part together.
	most = 100

	// slow is for how long a transaction that is under way may hold up others: it may hang on
	// a connection that is dead, while another one would do.
	slow = 200 * time.Millisecond
)

// write is one guarded write. Two of one name never travel together: their keys would get
// the same revision, and the queue is ordered by that.
type write struct {
	ctx        context.Context
	name       string
	cmps       []clientv3.Cmp
	then, othw []clientv3.Op // both nil: brief is all of it
	brief      *brief        // nil: it can only be sent as it is
	alone      bool          // it travels by itself, as for having been in a batch that was refused
	done       chan written
	lane       lane // if it does not wait for others
}

// lane is that of a transaction. It is given up when that is through, or slow while others
// may have to wait.
type lane struct {
	timer  sharedtimer.Timer
	timed  bool // that is set
	writer *Writer
	left   bool
}

// take gives the lane to a transaction. Called with mu held.
func (w *Writer) take(l *lane) {
	l.writer = w
	w.aloft = append(w.aloft, l)
	if w.flying < w.lanes {
		return // nobody has to wait
	}
	for _, l := range w.aloft {
		if !l.timed {
			l.timed = true
			w.slow.Set(&l.timer, l)
		}
	}
}

// Fire gives the lane to those who wait, once.
func (l *lane) Fire() {
	w := l.writer
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.left {
		return
	}
	w.free(l)
	w.landed()
}

// free takes the lane back. Called with mu held.
func (w *Writer) free(l *lane) {
	l.left = true
	if l.timed {
		l.timer.Stop()
	}
	w.aloft = slices.DeleteFunc(w.aloft, func(o *lane) bool { return o == l })
}

type written struct {
	resp *clientv3.TxnResponse
	err  error
}

// NewWriter makes a writer. Its goroutines are started by spawn, and end with the
// requests that they send.
func NewWriter(life context.Context, kv clientv3.KV, lanes int, spawn func(func()) bool) *Writer {
	patience := sharedtimer.New(FirstBound)
	kv, tracker := timeline.Of(kv)
	return &Writer{
		Timeline: tracker,
		life:     life, kv: kv, lanes: lanes, spawn: spawn, most: most, Few: Few, Peek: peek,
		patience: patience, contexts: sharedtimer.NewPool(patience), slow: sharedtimer.New(slow), resting: sharedtimer.New(Resting),
	}
}

// Txn is a transaction that writes a key of a name. Whether it took effect is not known
// after an error.
func (w *Writer) Txn(ctx context.Context, name string, cmps []clientv3.Cmp, then, othw []clientv3.Op) (*clientv3.TxnResponse, error) {
	return w.txn(&write{ctx: ctx, name: name, cmps: cmps, then: then, othw: othw})
}

// txnOrBrief is Txn for what can be brief in a batch.
func (w *Writer) txnOrBrief(ctx context.Context, name string, b *brief, cmps []clientv3.Cmp, then, othw []clientv3.Op) (*clientv3.TxnResponse, error) {
	return w.txn(&write{ctx: ctx, name: name, brief: b, cmps: cmps, then: then, othw: othw})
}

// txnBrief is Txn for what is brief in any case.
func (w *Writer) txnBrief(ctx context.Context, name string, b *brief) (*clientv3.TxnResponse, error) {
	return w.txn(&write{ctx: ctx, name: name, brief: b})
}

// TxnAlone is a transaction that travels by itself, as it is long, or has keys of several
// names.
func (w *Writer) TxnAlone(ctx context.Context, name string, cmps []clientv3.Cmp, then, othw []clientv3.Op) (*clientv3.TxnResponse, error) {
	return w.txn(&write{ctx: ctx, name: name, cmps: cmps, then: then, othw: othw, alone: true})
}

func (w *Writer) txn(wr *write) (*clientv3.TxnResponse, error) {
	if w.Pace != nil {
		w.Pace(wr.ctx, wr.name)
	}
	w.mu.Lock()
	if w.flying < w.lanes {
		w.flying++
		w.take(&wr.lane)
		w.mu.Unlock()
		defer wr.lane.Fire()
		return w.send(wr)
	}
	wr.done = make(chan written, 1)
	w.waiting = append(w.waiting, wr)
	w.mu.Unlock()
	select {
	case out := <-wr.done:
		return out.resp, out.err
	case <-wr.ctx.Done():
		return nil, wr.ctx.Err()
	}
}

// landed gives a lane to those who wait. Called with mu held.
func (w *Writer) landed() {
	batch := w.next()
	if len(batch) == 0 {
		w.flying--
		return
	}
	l := &lane{}
	w.take(l)
	spawned := w.spawn(func() {
		defer l.Fire()
		w.fly(batch)
	})
	if !spawned { // the session has ended, and with it the contexts of all of them
		for _, wr := range batch {
			wr.done <- written{nil, context.Canceled}
		}
		w.free(l)
		w.flying--
	}
}

// next takes the writes that go together: the oldest, of different names, and whoever
// has to go alone by himself. Those whose callers have gone are left out. Called with
// mu held.
func (w *Writer) next() []*write {
	if len(w.waiting) == 0 {
		return nil
	}
	w.waiting = slices.DeleteFunc(w.waiting, func(wr *write) bool { return wr.ctx.Err() != nil })
	var batch []*write
	names := make(map[string]bool)
	rest := w.waiting[:0]
	for _, wr := range w.waiting {
		full := len(batch) >= w.most || len(batch) > 0 && batch[0].alone
		if full || names[wr.name] || wr.alone && len(batch) > 0 {
			rest = append(rest, wr)
			continue
		}
		names[wr.name] = true
		batch = append(batch, wr)
	}
	clear(w.waiting[len(rest):])
	w.waiting = rest
	return batch
}

// send sends a write by itself.
func (w *Writer) send(wr *write) (*clientv3.TxnResponse, error) {
	if wr.onlyBrief() {
		return w.commit(wr.ctx, wr.brief)
	}
	return w.kv.Txn(wr.ctx).If(wr.cmps...).Then(wr.then...).Else(wr.othw...).Commit()
}

// fly sends a batch and tells each of its writes what came of it.
func (w *Writer) fly(batch []*write) {
	if len(batch) == 1 {
		resp, err := w.send(batch[0])
		batch[0].done <- written{resp, err}
		return
	}
	ctx, cancel := context.WithTimeout(w.life, requestTimeout)
	defer cancel()
	all, err := w.sendBatch(ctx, batch)
	if err != nil && answer.Final(err) {
		// One of them is to blame, as for want of permission, and etcd does not say which.
		w.again(batch, errors.Is(err, rpctypes.ErrTooManyOps))
		return
	}
	for i, wr := range batch {
		if err != nil {
			wr.done <- written{nil, err}
			continue
		}
		wr.done <- written{all[i], nil}
	}
}

// again puts the writes of a refused batch back, each to go alone. The first ones go at once, on
// all lanes that are free: the batch may have given up its own long ago, and nobody else may
// come; and nobody has to wait, nor is any lane timed, while there is another one.
func (w *Writer) again(batch []*write, tooMany bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if tooMany {
		w.most = max(w.most/2, 1)
	}
	for _, wr := range batch {
		wr.alone = true
	}
	w.waiting = append(batch, w.waiting...)
	for len(w.waiting) > 0 && w.flying < w.lanes {
		w.flying++
		w.landed()
	}
}
