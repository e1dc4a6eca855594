package etcdlock

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/lazyctx"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// ReleaseRequest asks the holder of a name to release it; see [Session.Ask] and [Lock.Asked].
type ReleaseRequest struct {
	Name   string // of the lock, the semaphore or the election
	Reason string

	// The session that asks, as it describes itself.
	Owner string
	Host  string
	PID   int
	Since time.Time // by the clock of Host
}

// request is a ReleaseRequest as it stands in etcd.
type request struct {
	Reason string    `json:"reason,omitempty"`
	Owner  string    `json:"owner,omitempty"`
	Host   string    `json:"host,omitempty"`
	PID    int       `json:"pid,omitempty"`
	Since  time.Time `json:"since,omitzero"`
	Of     []asked   `json:"of"`
}

// asked is one entry whose holder is asked.
type asked struct {
	Key            string `json:"key"` // as wire.Text has it
	CreateRevision int64  `json:"rev"`
}

// askPrefix is under what requests stand, beside the queue of a name.
func askPrefix(name string) string { return wire.Side(name, "ask/") }

// Ask asks all present holders of a name, as a lock, an election or permits, to release it. It
// blocks until all of them have released, or ctx ends. A holder receives the request from
// [Lock.Asked], if it listens, and decides. No holder is evicted, and the caller does not acquire
// the lock by this call. To acquire the lock, wait in the queue for it.
//
// The request is to sessions. Of goroutines that hand over in memory each is asked. A key that is
// kept by [WithRetention] counts as held for as long as it is kept, unless its last holder has
// received the request.
//
// The request is stored in etcd, beside the queue, while the call blocks, under the lease of the
// session. It is withdrawn when Ask returns, in the background if etcd does not answer.
//
// Errors:
//   - the error of ctx: the holders may go on
//   - [ErrLost] if the lease was lost
//   - [ErrSessionClosed]
//   - [ErrInvalidName]
//   - what etcd refuses
func (s *Session) Ask(ctx context.Context, name, reason string) error {
	err := s.usable(name)
	if err == nil {
		err = s.manager.ask(ctx, name, reason)
	}
	return opError("ask for", name, err)
}

func (m *manager) ask(ctx context.Context, name, reason string) error {
	within := lazyctx.New(ctx)
	defer within.Cancel(context.Canceled)
	ls, err := m.awaitLease(within)
	if err != nil {
		return err
	}
	q := m.queues.Queue(name)
	under, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ls.Context(), func() { cancel(ls.Err()) })()
	all, _, err := q.List(under)
	if err != nil {
		return err
	}
	r := request{Reason: reason, Owner: m.owner, Host: hostname(), PID: os.Getpid(), Since: time.Now().UTC()}
	var holders []*mvccpb.KeyValue
	for _, c := range queue.Contenders(name, all) {
		if len(c.Ahead) == 0 {
			holders = append(holders, c.KeyValue)
			r.Of = append(r.Of, asked{wire.Text(string(c.Key)), c.CreateRevision})
		}
	}
	if len(holders) == 0 {
		return nil
	}
	posted, err := m.post(under, cancel, ls, name, r)
	if err != nil {
		return err
	}
	select {
	case err := <-posted:
		switch {
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			ls.End(lockerr.Lost(ErrRevoked))
			return ls.Err()
		case err != nil:
			return err
		}
	case <-under.Done():
		return ended(ctx, under)
	}
	for _, kv := range holders {
		if err := q.AwaitGone(under, kv); err != nil {
			if under.Err() != nil {
				return ended(ctx, under)
			}
			return err
		}
	}
	return nil
}

// ended is why a call has ended: by its own context, or by the end of the session or its lease.
func ended(ctx, under context.Context) error {
	if ctx.Err() != nil {
		return lockerr.OfContext(ctx)
	}
	return context.Cause(under)
}

// post writes a request, and takes it back when ctx ends; both in the background, as a
// write that is not answered may take effect yet. The channel tells that it is written.
// An Orphan ends ctx by cancel, and waits until the request is gone.
func (m *manager) post(ctx context.Context, cancel context.CancelCauseFunc, ls *lease.Lease, name string, r request) (<-chan error, error) {
	value, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.admits(); err != nil {
		return nil, err
	}
	m.serial++
	id := m.serial
	m.asks[id] = cancel
	key := askPrefix(name) + wire.Hex(ls.ID()) + "." + strconv.Itoa(id)
	posted := make(chan error, 1)
	m.tasks.Go(func() {
		unsure, err := queue.Put(ls.Context(), m.kv, key, string(value), ls.ID())
		posted <- err
		if err == nil {
			<-ctx.Done() // or the lease's end, with which ctx ends too
		}
		if err == nil || unsure {
			m.takeBack(ls, key, unsure)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.asks, id)
		m.wakeDrain()
	})
	return posted, nil
}

// takeBack deletes a request of ours; with the lease it goes anyway. If unsure, the sweeper
// looks for what takes effect later.
func (m *manager) takeBack(ls *lease.Lease, key string, unsure bool) {
	err := queue.Delete(ls.Context(), m.kv, key)
	if err == nil && unsure {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.doubt(ls, key, key, nil, manyRequests, firstSweep)
	}
	if err != nil && ls.Err() == nil {
		m.log.Warn("a request is left to expire with its lease", zap.String("key", key), zap.Error(err))
	}
}

// Asked returns a channel with each request to release this hold, by [Session.Ask]. The holder
// decides whether to end soon or to go on. The channel is closed when the hold ends.
//
// The first call starts to listen, with a goroutine and a watch in etcd that end with the hold.
// Earlier requests that still stand are received too. A request waits until it is received.
func (h *hold) Asked() <-chan ReleaseRequest {
	ctx := h.Context()
	h.mu.Lock()
	first := h.asked == nil
	if first {
		h.asked = make(chan ReleaseRequest)
	}
	told := h.asked
	h.mu.Unlock()
	if !first {
		return told
	}
	listening := h.tenure.line.manager.spawn(func() {
		defer close(told)
		var names sync.WaitGroup
		for _, e := range h.entry.Parts() {
			names.Go(func() { h.listen(ctx, e, told) })
		}
		names.Wait()
	})
	if !listening {
		close(told) // the session has ended, and the hold with it
	}
	return told
}

// listen tells of requests for an entry until ctx ends.
func (h *hold) listen(ctx context.Context, e *queue.Entry, told chan<- ReleaseRequest) {
	m := h.tenure.line.manager
	name, _ := wire.NameOf(e.Key)
	before := make(map[string]int64) // keys of received requests, and their revisions
	err := m.queues.Queue(name).Each(ctx, askPrefix(name), func(kv *mvccpb.KeyValue) {
		var r request
		if before[string(kv.Key)] == kv.CreateRevision || json.Unmarshal(kv.Value, &r) != nil || !r.concerns(e) {
			return
		}
		before[string(kv.Key)] = kv.CreateRevision
		h.tenure.wanted()
		select {
		case told <- ReleaseRequest{Name: name, Reason: r.Reason, Owner: r.Owner, Host: r.Host, PID: r.PID, Since: r.Since}:
		case <-ctx.Done():
		}
	})
	if ctx.Err() == nil {
		m.log.Warn("cannot hear of requests to let go", zap.String("name", name), zap.Error(err))
		<-ctx.Done() // before that, it would look like the end of the hold
	}
}

func (r *request) concerns(e *queue.Entry) bool {
	for _, a := range r.Of {
		if wire.FromText(a.Key) == e.Key && a.CreateRevision == e.CreateRevision {
			return true
		}
	}
	return false
}

// wanted notes that another session wants the lock, so that it is not kept.
func (t *ownership) wanted() {
	m := t.line.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	t.stranger = true
}
