package lockmgr

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lazyctx"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// ReleaseRequest asks the holder of a name to release it.
type ReleaseRequest struct {
	Name   string
	Reason string

	// The session that asks, as it describes itself.
	Owner string
	Host  string
	PID   int
	Since time.Time // by the clock of Host
}

// posted is a ReleaseRequest as it stands in etcd.
type posted struct {
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

// AskPrefix is the prefix of the requests beside the queue of a name.
func AskPrefix(name string) string { return wire.Side(name, "ask/") }

// Ask asks all present holders of r.Name to release it. It blocks until all of them have released,
// or ctx or the lease ends.
func (m *Manager) Ask(ctx context.Context, r ReleaseRequest) error {
	within := lazyctx.New(ctx)
	defer within.Cancel(context.Canceled)
	ls, err := m.awaitLease(within)
	if err != nil {
		return err
	}
	q := m.cfg.Queues.Queue(r.Name)
	under, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ls.Context(), func() { cancel(ls.Err()) })()
	all, _, err := q.List(under)
	if err != nil {
		return err
	}
	p := posted{Reason: r.Reason, Owner: r.Owner, Host: r.Host, PID: r.PID, Since: r.Since}
	var holders []*mvccpb.KeyValue
	for _, c := range queue.Contenders(r.Name, all) {
		if len(c.Ahead) == 0 {
			holders = append(holders, c.KeyValue)
			p.Of = append(p.Of, asked{wire.Text(string(c.Key)), c.CreateRevision})
		}
	}
	if len(holders) == 0 {
		return nil
	}
	stands, err := m.post(under, cancel, ls, r.Name, p)
	if err != nil {
		return err
	}
	select {
	case err := <-stands:
		switch {
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			ls.End(lockerr.Lost(lockerr.ErrRevoked))
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

// post writes a request, and deletes it when ctx ends. Both happen in the background, as a write
// that is not answered may take effect later. The channel reports when the request is written.
// Drain ends ctx by cancel, and waits until the request is gone.
func (m *Manager) post(ctx context.Context, cancel context.CancelCauseFunc, ls *lease.Lease, name string, p posted) (<-chan error, error) {
	value, err := json.Marshal(p)
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
	key := AskPrefix(name) + wire.Hex(ls.ID()) + "." + strconv.Itoa(id)
	stands := make(chan error, 1)
	m.tasks.Go(func() {
		unsure, err := queue.Put(ls.Context(), m.cfg.KV, key, string(value), ls.ID())
		stands <- err
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
	return stands, nil
}

// takeBack deletes a request of this session; with the lease it goes anyway. If unsure, the sweeper
// looks for a write that takes effect later.
func (m *Manager) takeBack(ls *lease.Lease, key string, unsure bool) {
	err := queue.Delete(ls.Context(), m.cfg.KV, key)
	if err == nil && unsure {
		m.sweeper.SuspectBeside(ls, key)
	}
	if err != nil && ls.Err() == nil {
		m.cfg.Log.Warn("cannot delete a release request; it expires with its lease", zap.String("key", key), zap.Error(err))
	}
}

// othersRequest tells whether a key is a release request under a lease that no call of this process has
// posted. No later call of this process gets its number.
func (m *Manager) othersRequest(key string, under clientv3.LeaseID) bool {
	_, by, ok := strings.Cut(key, AskPrefix(""))
	number, ours := strings.CutPrefix(by, wire.Hex(under)+".")
	n, err := strconv.Atoi(number)
	if !ok || !ours || err != nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.asks[n] != nil {
		return false
	}
	m.serial = max(m.serial, n)
	return true
}

// Asked returns a channel with each request to release the hold. It is closed when the hold ends.
// The first call starts to listen. All calls of one hold are made with the same T.
func Asked[T any](h *Hold, of func(ReleaseRequest) T) <-chan T {
	ctx := h.Context()
	h.mu.Lock()
	told, listens := h.asked.(chan T)
	if !listens {
		told = make(chan T)
		h.asked = told
	}
	h.mu.Unlock()
	if listens {
		return told
	}
	tell := func(r ReleaseRequest) {
		select {
		case told <- of(r):
		case <-ctx.Done():
		}
	}
	if !h.owned.local.manager.spawn(func() {
		defer close(told)
		h.listen(ctx, tell)
	}) {
		close(told) // the session has ended, and the hold with it
	}
	return told
}

// listen reports the requests to release the hold until ctx ends.
func (h *Hold) listen(ctx context.Context, tell func(ReleaseRequest)) {
	var names sync.WaitGroup
	for _, e := range h.entry.Parts() {
		names.Go(func() { h.listenFor(ctx, e, tell) })
	}
	names.Wait()
}

// listenFor reports requests for an entry until ctx ends.
func (h *Hold) listenFor(ctx context.Context, e *queue.Entry, tell func(ReleaseRequest)) {
	m := h.owned.local.manager
	name, _ := wire.NameOf(e.Key)
	before := make(map[string]int64) // keys of received requests, and their revisions
	err := m.cfg.Queues.Queue(name).Each(ctx, AskPrefix(name), func(kv *mvccpb.KeyValue) {
		var p posted
		if before[string(kv.Key)] == kv.CreateRevision || json.Unmarshal(kv.Value, &p) != nil || !p.concerns(e) {
			return
		}
		before[string(kv.Key)] = kv.CreateRevision
		h.owned.wanted()
		tell(ReleaseRequest{Name: name, Reason: p.Reason, Owner: p.Owner, Host: p.Host, PID: p.PID, Since: p.Since})
	})
	if ctx.Err() == nil {
		m.cfg.Log.Warn("cannot listen for release requests; Asked receives none any more", zap.String("name", name), zap.Error(err))
		<-ctx.Done() // a channel that closes before would look like the end of the hold
	}
}

func (p *posted) concerns(e *queue.Entry) bool {
	for _, a := range p.Of {
		if wire.FromText(a.Key) == e.Key && a.CreateRevision == e.CreateRevision {
			return true
		}
	}
	return false
}

// wanted notes that another session wants the lock, so that the key is not kept.
func (t *ownership) wanted() {
	m := t.local.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	t.stranger = true
}
