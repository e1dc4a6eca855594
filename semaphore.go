package etcdlock

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"

	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Semaphore has a number of permits, of which several holders have some each, among all
// processes that use its name. Like [Mutex] it is only a name and a session, and a limit.
//
// Permits are given in the order in which they were asked for, and all of a request at
// once: a large request that waits is not passed by small ones that come later, and nobody
// holds half of what he needs. Whoever takes the name as a [Mutex] or a [RWMutex] takes all
// permits.
type Semaphore struct {
	session *Session
	name    string
	limit   int
	cfg     mutexConfig
	ordered atomic.Int64 // the limit by order, as last seen; 0 for none
}

// Permit is one acquisition of a [Semaphore].
//
// Its fencing token is the revision at which it was granted. As several hold at a time,
// it tells nothing about them among each other; it does about whoever takes the name alone.
type Permit struct {
	*Hold
	n int
}

// NewSemaphore names a semaphore and says how many permits it has; for names and options
// see [NewMutex]. All processes have to say the same limit: who finds others in the queue
// that were given another one gets [ErrLimitMismatch]. See [Semaphore.SetLimit] for how
// to change it. [WithTimeSlice] and [WithRetention] do nothing here.
func NewSemaphore(s *Session, name string, limit int, opts ...MutexOption) *Semaphore {
	return &Semaphore{session: s, name: name, limit: limit, cfg: newMutexConfig(s, opts)}
}

// Name is the name that the semaphore was made with.
func (m *Semaphore) Name() string { return m.name }

// Acquire waits in line until n permits are free that nobody older waits for, and takes
// them. For what it blocks on see [Mutex.Lock].
//
// Errors: those of [Mutex.Lock]; [ErrInvalidPermits] for n below 1 or above the limit, at
// once; [ErrLimitMismatch].
func (m *Semaphore) Acquire(ctx context.Context, n int) (*Permit, error) {
	return m.acquire(ctx, n, false, "acquire")
}

// TryAcquire is Acquire without the wait in line: [ErrLocked] at once when there are too few
// free permits, or somebody waits, in this session or in another. It writes only if it
// gets them.
func (m *Semaphore) TryAcquire(ctx context.Context, n int) (*Permit, error) {
	return m.acquire(ctx, n, true, "try to acquire")
}

func (m *Semaphore) acquire(ctx context.Context, n int, try bool, op string) (*Permit, error) {
	limit, ordered := m.known()
	if n < 1 || limit < 1 || n > limit && !ordered {
		return nil, opError(op, m.name, fmt.Errorf("%w: %d of %d", ErrInvalidPermits, n, limit))
	}
	want := func() wire.Holder {
		limit, ordered := m.known()
		return wire.Holder{Mode: wire.Counted, Permits: n, Limit: limit, Ordered: ordered}
	}
	var c claim
	heed := func(order *mvccpb.KeyValue) (value string, changed bool) {
		if !m.heed(order) {
			return "", false
		}
		return c.value(), true
	}
	c = m.cfg.claim(ctx, try, fmt.Sprintf("%d permits ", n), want(), queue.Permits(limitKey(m.name), heed))
	c.value = func() string { return c.restate(want()) }
	h, err := m.session.acquire(ctx, m.name, c)
	if err != nil {
		return nil, opError(op, m.name, err)
	}
	return &Permit{h, n}, nil
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

// Queue lists who holds and who waits, in order; see [Mutex.Queue].
func (m *Semaphore) Queue(ctx context.Context) ([]Entry, error) {
	return m.session.list(ctx, m.name)
}

// Permits is how many permits these are.
func (p *Permit) Permits() int { return p.n }

// Release gives the permits back; see [Lock.Unlock].
func (p *Permit) Release(ctx context.Context) error {
	return opError("release permits of", p.tenure.line.name, p.release(ctx))
}

// An order for another limit stands beside the queue, until it is taken back: it has to
// stand when nobody is in the queue.
type limitOrder struct {
	Limit int `json:"limit"`
}

func limitKey(name string) string { return wire.Side(name, "limit") }

// known is the limit as far as this value knows, and whether it is by order.
func (m *Semaphore) known() (limit int, ordered bool) {
	if by := m.ordered.Load(); by > 0 {
		return int(by), true
	}
	return m.limit, false
}

// heed takes note of an order, if there is one, and tells whether that was news.
func (m *Semaphore) heed(order *mvccpb.KeyValue) (news bool) {
	var o limitOrder
	if order != nil && (json.Unmarshal(order.Value, &o) != nil || o.Limit < 1) {
		return false // not ours
	}
	return m.ordered.Swap(int64(o.Limit)) != int64(o.Limit)
}

// Limit asks etcd for the limit: the one that was set last, or else the one that the
// semaphore was made with.
func (m *Semaphore) Limit(ctx context.Context) (int, error) {
	if err := m.session.usable(m.name); err != nil {
		return 0, opError("read the limit of", m.name, err)
	}
	resp, err := m.session.client.KV.Get(ctx, limitKey(m.name))
	if err != nil {
		return 0, opError("read the limit of", m.name, err)
	}
	m.heed(first(resp.Kvs))
	limit, _ := m.known()
	return limit, nil
}

func first(kvs []*mvccpb.KeyValue) *mvccpb.KeyValue {
	if len(kvs) == 0 {
		return nil
	}
	return kvs[0]
}

// SetLimit changes the limit while the semaphore is in use, for all processes, whatever they
// were given: those who hold go on, and permits are given by the new limit from then on. A
// request that waits for more than a smaller limit ends with [ErrInvalidPermits]. The
// change stays in etcd, as one key beside the queue, until it is taken back by 0: then
// each process goes by what it was given, as soon as those who came before have left.
//
// It blocks until etcd has confirmed it or ctx ends; after an error it may have been
// done in part, which never admits too many, and can be repeated. [ErrInvalidPermits] for a
// limit below 0.
func (m *Semaphore) SetLimit(ctx context.Context, limit int) error {
	return opError("set the limit of", m.name, m.setLimit(ctx, limit))
}

func (m *Semaphore) setLimit(ctx context.Context, limit int) error {
	if limit < 0 {
		return fmt.Errorf("%w: a limit of %d", ErrInvalidPermits, limit)
	}
	if err := m.session.usable(m.name); err != nil {
		return err
	}
	key := limitKey(m.name)
	if limit == 0 {
		_, err := m.session.client.KV.Delete(ctx, key)
		if err == nil {
			m.ordered.Store(0)
		}
		return err
	}
	order, err := json.Marshal(limitOrder{limit})
	if err != nil {
		return err
	}
	// First the order, which all heed who enter from then on, and then those who are there.
	if _, err := m.session.client.KV.Put(ctx, key, string(order)); err != nil {
		return err
	}
	m.ordered.Store(int64(limit))
	return m.session.queue(m.name).RestateAll(ctx, func(value []byte) (string, bool) {
		h := wire.Wants(value)
		if h.Mode != wire.Counted || h.Ordered && h.Limit == limit {
			return "", false
		}
		h.Limit, h.Ordered = limit, true
		return h.Encode(), true
	})
}
