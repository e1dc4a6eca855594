package etcdlock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Semaphore has a number of permits, which several holders share, among all processes that use its
// name. Like [Mutex] it is only a name and a session, and a limit.
//
// Permits are granted in the order of the requests, as for a [Mutex], and all permits of a request
// at once. A large request that waits is not overtaken by later small ones, and no caller holds
// only a part of its request. Each request has a key of its own in etcd, but of the requests that
// wait in one session only the first one. A [Mutex] or a [RWMutex] of the same name takes all
// permits.
type Semaphore struct {
	session *Session
	name    string
	limit   int
	cfg     mutexConfig
	order   atomic.Pointer[limitOrder] // as last read; nil for none
}

// Permit is one acquisition of a [Semaphore].
//
// Its fencing token is the revision at which it was granted. Several permits are held at a time,
// and their tokens say nothing about the order among them. The tokens do order permits against a
// holder that takes the name exclusively.
type Permit struct {
	hold
	n int
}

// NewSemaphore names a semaphore and sets how many permits it has. For names and options see
// [NewMutex]. All processes have to use the same limit. A process that finds entries in the queue
// that were written with another limit gets [ErrLimitMismatch]. See [LimitError] for how to change
// the limit while processes of both run.
func NewSemaphore(s *Session, name string, limit int, opts ...LockOption) *Semaphore {
	return &Semaphore{session: s, name: name, limit: limit, cfg: newMutexConfig(s, opts)}
}

// Name returns the name that the semaphore was made with.
func (m *Semaphore) Name() string { return m.name }

// Acquire waits in the queue until n permits are free for which no older entry waits, and takes
// them. It blocks as [Mutex.Lock] does.
//
// It fails with [ErrDeadlock] under the context of a permit of the same name, because a caller that
// keeps some permits while it waits for more can wait for itself. With [WithReentry] it returns at
// once, with a part of the permits that the context carries. It then fails with ErrDeadlock if n is
// more than these.
//
// Errors:
//   - those of [Mutex.Lock]
//   - [ErrInvalidPermits] if n is below 1 or above the limit; for a larger n Acquire asks etcd for
//     the limit first, because it may have been raised
//   - [ErrLimitMismatch], as a [LimitError], while an entry in the queue was written with another
//     limit
func (m *Semaphore) Acquire(ctx context.Context, n int) (*Permit, error) {
	return m.acquire(ctx, n, false, "acquire")
}

// TryAcquire is Acquire without the wait in the queue. It returns [ErrLocked] at once when there
// are too few free permits, or another entry waits, in this session or in another. It writes only
// if it gets the permits. Beside other holders it makes two requests, and more while other entries
// come in between. If that happens eight times, it enters the queue, and leaves it again if it has
// to wait.
func (m *Semaphore) TryAcquire(ctx context.Context, n int) (*Permit, error) {
	return m.acquire(ctx, n, true, "try to acquire")
}

func (m *Semaphore) acquire(ctx context.Context, n int, try bool, op string) (*Permit, error) {
	if err := m.check(ctx, n); err != nil {
		return nil, opError(op, m.name, err)
	}
	order := m.order.Load() // the value is made by it; used by the worker from here on
	c := callOf(ctx, nil, try)
	value := func() string {
		return c.Restate(wire.Holder{Mode: wire.Counted, Permits: n, Limit: order.or(m.limit), Ordered: order.given()})
	}
	rule := queue.Permits(&queue.Side{
		Key:   limitKey(m.name),
		Known: func() int64 { return order.revision(m.session.etcd.Timeline.Number()) },
		Heed: func(kv *mvccpb.KeyValue) string {
			order = m.heed(kv)
			return value()
		},
	})
	c.Request = m.cfg.request(fmt.Sprintf("%d of %d permits ", n, m.limit), &wire.Holder{Mode: wire.Counted, Permits: n}, rule)
	c.Value = value
	h, err := m.session.acquire(ctx, KindSemaphore, m.name, &c)
	if err != nil {
		return nil, opError(op, m.name, m.explain(err))
	}
	return &Permit{h, n}, nil
}

// check refuses a number of permits that exceeds the limit. It first reads a limit that may have
// been raised.
func (m *Semaphore) check(ctx context.Context, n int) error {
	if n < 1 || m.limit < 1 || m.limit > wire.MostPermits {
		return fmt.Errorf("%w: %d of %d", ErrInvalidPermits, n, m.limit)
	}
	limit := m.order.Load().or(m.limit)
	if n > limit {
		var err error
		if limit, err = m.readLimit(ctx); err != nil {
			return err
		}
	}
	if n > limit {
		return fmt.Errorf("%w: %d of %d", ErrInvalidPermits, n, limit)
	}
	return nil
}

// explain adds the missing permission of the client's user to err.
func (m *Semaphore) explain(err error) error {
	if !errors.Is(err, rpctypes.ErrPermissionDenied) {
		return err
	}
	_, end := wire.Range(m.name)
	return fmt.Errorf("%w: a semaphore also has a key outside of its queue: grant the user readwrite to the range from %s to %s", err, wire.Quote(m.name), wire.Quote(end))
}

// Do acquires n permits, calls fn, and releases them when fn has returned or panicked; see
// [Mutex.Do].
func (m *Semaphore) Do(ctx context.Context, n int, fn func(ctx context.Context, permit *Permit) error) error {
	permit, err := m.Acquire(ctx, n)
	if err != nil {
		return err
	}
	return permit.do(ctx, permit.Release, func(ctx context.Context) error { return fn(ctx, permit) })
}

// Queue lists the holders and the waiters, in order; see [Mutex.Queue].
func (m *Semaphore) Queue(ctx context.Context) ([]QueueEntry, error) {
	return m.session.list(ctx, m.name)
}

// Permits returns how many permits this acquisition has.
func (p *Permit) Permits() int { return p.n }

// Release gives the permits back; see [Lock.Unlock].
func (p *Permit) Release(ctx context.Context) error {
	return opError("release permits of", p.Name(), p.release(ctx))
}

// limitOrder is the limit that SetLimit has set. It lies beside the queue, under a key without a
// lease, until it is reset, because it has to exist while the queue is empty.
type limitOrder struct {
	Limit int `json:"limit"`
	rev   int64

	timeline int // the timeline of rev
}

func limitKey(name string) string { return wire.Side(name, "limit") }

// or returns the limit that SetLimit has set, or the one that a process was configured with.
func (o *limitOrder) or(given int) int {
	if !o.given() {
		return given
	}
	return o.Limit
}

// given reports whether SetLimit has set a limit.
func (o *limitOrder) given() bool { return o != nil && o.Limit > 0 }

// revision returns the revision of the order's key, 0 if there is no order, and a revision that no
// key has if the order is of another timeline.
func (o *limitOrder) revision(timeline int) int64 {
	switch {
	case o == nil:
		return 0
	case o.timeline != timeline:
		return -1
	default:
		return o.rev
	}
}

// heed stores the order that was read, nil for none. An order in another format counts as none.
func (m *Semaphore) heed(kv *mvccpb.KeyValue) *limitOrder {
	var o *limitOrder
	if kv != nil {
		o = &limitOrder{}
		if json.Unmarshal(kv.Value, o) != nil || o.Limit < 1 || o.Limit > wire.MostPermits {
			o.Limit = 0
		}
		o.rev, o.timeline = kv.ModRevision, m.session.etcd.Timeline.Number()
	}
	m.order.Store(o)
	return o
}

// Limit asks etcd for the limit. It is the one that was set last, or else the one that the
// semaphore was made with. Limit blocks until etcd has answered or ctx ends.
func (m *Semaphore) Limit(ctx context.Context) (int, error) {
	limit, err := m.readLimit(ctx)
	return limit, opError("read the limit of", m.name, err)
}

func (m *Semaphore) readLimit(ctx context.Context) (int, error) {
	if ctx.Err() != nil {
		return 0, lockerr.OfContext(ctx)
	}
	if err := m.session.usable(m.name); err != nil {
		return 0, err
	}
	ctx, stop := m.session.engine.Within(ctx)
	defer stop()
	var resp *clientv3.GetResponse
	err := m.session.etcd.Insist(ctx, func(ctx context.Context) (err error) {
		resp, err = m.session.etcd.KV.Get(ctx, limitKey(m.name))
		return err
	})
	if err != nil {
		return 0, m.explain(err)
	}
	var kv *mvccpb.KeyValue
	if len(resp.Kvs) > 0 {
		kv = resp.Kvs[0]
	}
	return m.heed(kv).or(m.limit), nil
}

// SetLimit changes the limit while the semaphore is in use, for all processes, whatever limit they
// were given. Present holders continue, and permits are granted by the new limit from when SetLimit
// returns. A request that waits for more than a smaller limit ends with [ErrInvalidPermits]. The
// change stays in etcd, as one key beside the queue and without a lease, until SetLimit with 0
// takes it back. Each process then uses the limit that it was given, as soon as the earlier entries
// have left.
//
// It blocks until etcd has confirmed the change or ctx ends. After an error the change may have
// been made in part, which never admits too many, and the call can be repeated. Of several calls at
// a time the last one takes effect. A limit below 0 or above 2,147,483,647 is [ErrInvalidPermits].
func (m *Semaphore) SetLimit(ctx context.Context, limit int) error {
	return opError("set the limit of", m.name, m.explain(m.setLimit(ctx, limit)))
}

func (m *Semaphore) setLimit(ctx context.Context, limit int) error {
	if limit < 0 || limit > wire.MostPermits {
		return fmt.Errorf("%w: a limit of %d: it must be from 0 to %d", ErrInvalidPermits, limit, wire.MostPermits)
	}
	if ctx.Err() != nil {
		return lockerr.OfContext(ctx)
	}
	if err := m.session.usable(m.name); err != nil {
		return err
	}
	ctx, stop := m.session.engine.Within(ctx)
	defer stop()
	// The order is written first, because all later entries follow it. Then the entries in the queue are
	// rewritten.
	rev, err := m.putOrder(ctx, limit)
	if err != nil || limit == 0 {
		return err
	}
	stands := clientv3.Compare(clientv3.ModRevision(limitKey(m.name)), "=", rev)
	return m.session.etcd.Queues.Queue(m.name).RestateAll(ctx, stands, func(value []byte) (string, bool) {
		h := wire.Wants(value)
		if h.Mode != wire.Counted || h.Ordered && h.Limit == limit {
			return "", false
		}
		h.Limit, h.Ordered = limit, true
		return h.Encode(), true
	})
}

// putOrder writes the order for a limit, or deletes it for 0, and returns its revision. Each try is
// guarded by the revision of the order that it replaces. Without the guard a late try would replace
// the order of another process. Its own caller might also take it for the order of another process,
// and leave the entries to that process.
func (m *Semaphore) putOrder(ctx context.Context, limit int) (rev int64, err error) {
	key := limitKey(m.name)
	value, err := json.Marshal(limitOrder{Limit: limit})
	if err != nil {
		return 0, err
	}
	write := clientv3.OpPut(key, string(value))
	if limit == 0 {
		write = clientv3.OpDelete(key)
	}
	before, tried := m.order.Load().revision(m.session.etcd.Timeline.Number()), false
	err = m.session.etcd.Insist(ctx, func(ctx context.Context) error {
		for {
			resp, err := m.session.etcd.KV.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", before)).
				Then(write).Else(clientv3.OpGet(key)).Commit()
			if err != nil {
				tried = true
				return err
			}
			if resp.Succeeded {
				rev = resp.Header.Revision
				return nil
			}
			before = 0
			for _, kv := range resp.Responses[0].GetResponseRange().Kvs {
				before = kv.ModRevision
				if tried && string(kv.Value) == string(value) { // by an earlier try without an answer
					rev = kv.ModRevision
					return nil
				}
			}
		}
	})
	return rev, err
}
