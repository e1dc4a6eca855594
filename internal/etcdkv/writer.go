package etcdkv

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/answer"
	"github.com/etcdlock/etcdlock/internal/sharedtimer"
)

// Writer sends the transactions of one session. A transaction is sent at once, alone, while fewer
// than a number of slots are taken. Otherwise it waits for a slot, and is sent as a part of one
// transaction together with the others that wait. Each part keeps its own comparisons and its own
// outcome, and etcd commits all of them to disk at once. Nothing waits for a batch to fill.
type Writer struct {
	config     WriterConfig
	firstTries *sharedtimer.Queue // of the first tries of a request
	contexts   *sharedtimer.Pool  // of requests that a caller sends by itself
	slow       *sharedtimer.Queue // of transactions that may hold up others
	bound      func(context.Context, int) (context.Context, context.CancelFunc)

	mu       sync.Mutex
	inFlight []*slot  // the slots that are taken
	most     int      // how many transactions one batch may have
	general  int      // how many batches remain that are not compact
	waiting  []*write // for a slot, in the order of their arrival
}

// WriterConfig is what a Writer is made of.
type WriterConfig struct {
	Life   context.Context                        // ends the batches
	KV     clientv3.KV                            // sends transactions
	Direct Transactor                             // sends compact transactions; nil where KV has to send them
	Slots  int                                    // how many transactions may be in flight before others wait; 0: Slots
	Spawn  func(f func()) bool                    // starts a goroutine for a batch; false if Life has ended
	Pace   func(ctx context.Context, name string) // called before each transaction; nil except in tests
}

// Txn is a transaction that writes the keys of one name.
type Txn struct {
	Name       string // transactions of one name never share a batch
	If         []clientv3.Cmp
	Then, Else []clientv3.Op
	Compact    *Compact // the compact form, if the transaction has one; alone, it is the whole transaction
	Alone      bool     // true if the transaction is never part of a batch
}

const (
	// Slots is the number of slots of a session. It is small, so that many writes share a batch if
	// there are many, and more than one, so that two goroutines do not wait for each other. With 256
	// callers three slots give a sixth more throughput than two, and four no more than three.
	Slots = 3

	// mostTogether is how many transactions share a batch. The default limit of the server is 128
	// operations, counted over the transaction and the largest of its parts.
	mostTogether = 100

	// slowAfter is for how long a transaction in flight may hold up others. Its connection may be
	// dead while the next one is not.
	slowAfter = 200 * time.Millisecond
)

// write is one transaction on its way. Two of one name never share a batch: their keys would have
// the same revision, which orders the queue.
type write struct {
	Txn
	ctx  context.Context
	done chan written // nil for a write that does not wait for a slot
	slot slot         // its own, if it does not wait
}

type written struct {
	resp *clientv3.TxnResponse
	err  error
}

// slot is taken by a transaction in flight. It is freed once: when the transaction is answered, or
// is slow while others may have to wait.
type slot struct {
	timer  sharedtimer.Timer
	timed  bool // true once timer is set
	writer *Writer
	freed  bool
}

// NewWriter returns a writer. Its goroutines are started by Spawn and end with their requests.
func NewWriter(c WriterConfig) *Writer {
	if c.Slots == 0 {
		c.Slots = Slots
	}
	firstTries := sharedtimer.New(FirstBound)
	w := &Writer{
		config: c, most: mostTogether,
		firstTries: firstTries, contexts: sharedtimer.NewPool(firstTries), slow: sharedtimer.New(slowAfter),
	}
	w.bound = w.bounded
	return w
}

// Commit sends a transaction and returns its answer. It blocks until etcd has answered or ctx ends.
// After an error it is not known whether the transaction took effect, or still will.
func (w *Writer) Commit(ctx context.Context, txn Txn) (*clientv3.TxnResponse, error) {
	if w.config.Pace != nil {
		w.config.Pace(ctx, txn.Name)
	}
	wr := &write{Txn: txn, ctx: ctx}
	w.mu.Lock()
	if len(w.inFlight) < w.config.Slots {
		w.take(&wr.slot)
		w.mu.Unlock()
		defer wr.slot.Fire()
		return w.send(wr)
	}
	wr.done = make(chan written, 1)
	w.waiting = append(w.waiting, wr)
	w.mu.Unlock()
	select {
	case out := <-wr.done:
		return out.resp, out.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Busy reports whether a transaction would have to wait for a slot.
func (w *Writer) Busy() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.inFlight) >= w.config.Slots
}

// take gives a slot to a transaction. Once all slots are taken, each of them is timed. Called with
// mu held.
func (w *Writer) take(s *slot) {
	s.writer = w
	w.inFlight = append(w.inFlight, s)
	if len(w.inFlight) < w.config.Slots {
		return
	}
	for _, s := range w.inFlight {
		if !s.timed {
			s.timed = true
			w.slow.Set(&s.timer, s)
		}
	}
}

// Fire frees the slot for the transactions that wait, once.
func (s *slot) Fire() {
	w := s.writer
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.freed {
		return
	}
	w.free(s)
	w.sendNext()
}

// free takes the slot back. Called with mu held.
func (w *Writer) free(s *slot) {
	s.freed = true
	if s.timed {
		s.timer.Stop()
	}
	w.inFlight = slices.DeleteFunc(w.inFlight, func(o *slot) bool { return o == s })
}

// sendNext gives a free slot to the transactions that wait, if there are any. Called with mu held.
func (w *Writer) sendNext() {
	batch := w.nextBatch()
	if len(batch) == 0 {
		return
	}
	s := &slot{}
	w.take(s)
	spawned := w.config.Spawn(func() {
		defer s.Fire()
		w.deliver(batch)
	})
	if !spawned { // the session has ended, and so have the contexts of all callers
		for _, wr := range batch {
			wr.done <- written{nil, context.Canceled}
		}
		w.free(s)
	}
}

// nextBatch takes the transactions that are sent next: the oldest ones of different names, or one
// that is sent alone. It drops transactions after the end of their callers' contexts. Called with mu
// held.
func (w *Writer) nextBatch() []*write {
	if len(w.waiting) == 0 {
		return nil
	}
	w.waiting = slices.DeleteFunc(w.waiting, func(wr *write) bool { return wr.ctx.Err() != nil })
	var batch []*write
	names := make(map[string]bool)
	rest := w.waiting[:0]
	for _, wr := range w.waiting {
		full := len(batch) >= w.most || len(batch) > 0 && batch[0].Alone
		if full || names[wr.Name] || wr.Alone && len(batch) > 0 {
			rest = append(rest, wr)
			continue
		}
		names[wr.Name] = true
		batch = append(batch, wr)
	}
	clear(w.waiting[len(rest):])
	w.waiting = rest
	return batch
}

// deliver sends a batch and hands each of its transactions its outcome.
func (w *Writer) deliver(batch []*write) {
	if len(batch) == 1 {
		resp, err := w.send(batch[0])
		batch[0].done <- written{resp, err}
		return
	}
	ctx, cancel := context.WithTimeout(w.config.Life, LastBound)
	defer cancel()
	all, err := w.sendBatch(ctx, batch)
	if err != nil && answer.Final(err) {
		// One transaction is to blame, as for a missing permission, and etcd does not name it.
		w.sendApart(batch, errors.Is(err, rpctypes.ErrTooManyOps))
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

// sendApart sends each transaction of a refused batch alone. The first ones are sent at once, on all
// free slots: the slot of the batch may have been freed long ago, and no other transaction may come
// that would free one. While a slot is free, no transaction waits and no slot is timed.
func (w *Writer) sendApart(batch []*write, tooMany bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if tooMany {
		w.most = max(w.most/2, 1)
	}
	for _, wr := range batch {
		wr.Alone = true
	}
	w.waiting = append(batch, w.waiting...)
	for len(w.waiting) > 0 && len(w.inFlight) < w.config.Slots {
		w.sendNext()
	}
}

// send sends one transaction.
func (w *Writer) send(wr *write) (*clientv3.TxnResponse, error) {
	if wr.onlyCompact() {
		return w.commit(wr.ctx, wr.Compact)
	}
	return w.config.KV.Txn(wr.ctx).If(wr.If...).Then(wr.Then...).Else(wr.Else...).Commit()
}

// sendBatch sends the transactions of a batch in one transaction, and returns their answers.
func (w *Writer) sendBatch(ctx context.Context, batch []*write) ([]*clientv3.TxnResponse, error) {
	if w.mayBeCompact() {
		all, err := w.sendCompact(ctx, batch)
		if all != nil || err != nil {
			return all, err
		}
		w.compactFailed()
	}
	parts := make([]clientv3.Op, len(batch))
	for i, wr := range batch {
		parts[i] = wr.inGeneral()
	}
	resp, err := w.config.KV.Txn(ctx).Then(parts...).Commit()
	if err != nil {
		return nil, err
	}
	all := make([]*clientv3.TxnResponse, len(batch))
	for i, done := range resp.Responses {
		all[i] = answerOf(resp.Header, done)
	}
	return all, nil
}
