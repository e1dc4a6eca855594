package lockmgr

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lazyctx"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/sweeper"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Under an adopted lease stand keys of the former process. A call adopts the oldest of them that
// fits what it wants, under its name and in any slot. It deletes keys that are in its way, because
// it would wait for a key of its own session. The slot table shows whether a key is in use: the
// owner of a key in this process has its slot.

// Adopted lists the keys of the former process that this process does not use.
func (m *Manager) Adopted(ctx context.Context) ([]wire.Parsed, error) {
	id := m.leaseID()
	if err := m.err(); err != nil {
		return nil, err
	}
	if id == clientv3.NoLease || id != m.heir {
		return nil, nil
	}
	var resp *clientv3.LeaseTimeToLiveResponse
	err := m.cfg.Insist(ctx, func(ctx context.Context) (err error) {
		resp, err = m.cfg.Leases.TimeToLive(ctx, id, clientv3.WithAttachedKeys())
		return err
	})
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []wire.Parsed
	for _, key := range resp.Keys {
		if k, ok := wire.ParseKey(string(key)); ok && m.unused(k) {
			all = append(all, k)
		}
	}
	return all, nil
}

// DeleteAdoptedRequests deletes the posted release requests under the adopted lease, of calls in
// which the former process was killed. Holders would be asked for as long as the session lives.
func (m *Manager) DeleteAdoptedRequests(ctx context.Context) error {
	if id := m.leaseID(); id == clientv3.NoLease || id != m.heir {
		return nil
	}
	return m.cfg.Insist(ctx, func(ctx context.Context) error {
		resp, err := m.cfg.Leases.TimeToLive(ctx, m.heir, clientv3.WithAttachedKeys())
		if err != nil {
			return err
		}
		for _, key := range resp.Keys {
			if m.othersRequest(string(key)) {
				if _, err := m.cfg.KV.Delete(ctx, string(key)); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// othersRequest tells whether a key is a release request that no call of this process has posted.
// No later call of this process gets its number.
func (m *Manager) othersRequest(key string) bool {
	_, by, ok := strings.Cut(key, AskPrefix(""))
	number, ours := strings.CutPrefix(by, wire.Hex(m.heir)+".")
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

// AdoptedLease returns the lease that was adopted; NoLease for none.
func (m *Manager) AdoptedLease() clientv3.LeaseID { return m.heir }

// unused tells whether a key of the adopted lease has no owner in this process. Called with m.mu
// held.
func (m *Manager) unused(k wire.Parsed) bool {
	return k.Lease == m.heir && !m.names.Busy(k.Name, k.Slot)
}

// DeleteAdopted deletes keys of the former process, except for keys that have an owner in this
// process by now.
func (m *Manager) DeleteAdopted(ctx context.Context, keys []wire.Parsed) error {
	var swept []queue.Swept
	var took []wire.Parsed
	for _, k := range keys {
		if k.Lease == m.heir && m.names.HoldAll([]string{k.Name}, []wire.Slot{k.Slot}) {
			took = append(took, k)
			swept = append(swept, queue.Swept{Name: k.Name, Key: wire.SlotKey(k.Name, k.Lease, k.Slot)})
		}
	}
	defer func() {
		for _, k := range took {
			m.dropSlot(k.Name, k.Slot)
		}
	}()
	for some := range slices.Chunk(swept, queue.MostSwept) {
		if err := m.cfg.Insist(ctx, func(ctx context.Context) error { return m.cfg.Queues.Sweep(ctx, some) }); err != nil {
			return err
		}
	}
	return nil
}

// mayInherit tells whether a key of the former process may stand under a name. Called with m.mu
// held.
func (m *Manager) mayInherit(ls *lease.Lease, name string) bool {
	return m.heir != clientv3.NoLease && ls != nil && ls.ID() == m.heir && (m.legacy == nil || m.legacy[name])
}

// mayInherit is Manager.mayInherit for any name of the local queue.
func (l *localQueue) mayInherit(ls *lease.Lease) bool {
	l.manager.mu.Lock()
	defer l.manager.mu.Unlock()
	return slices.ContainsFunc(l.names, func(name string) bool { return l.manager.mayInherit(ls, name) })
}

// ownKeys reads the keys of the session under the names of the local queue. It fails when the last
// waiter has left.
func (l *localQueue) ownKeys(wanted *lazyctx.Context, ls *lease.Lease) ([][]*mvccpb.KeyValue, error) {
	ctx, cancel := context.WithCancelCause(ls.Context())
	defer cancel(nil)
	defer context.AfterFunc(wanted.Context(), func() { cancel(errUnwanted) })()
	return l.manager.cfg.Queues.OwnKeys(ctx, ls.ID(), l.names)
}

// legacy is what a local queue has found of the former process. Only the worker uses it.
type legacy struct {
	adopted bool // true: keys were adopted, whose entry goes on as that of the present waiter
	others  bool // true: there are keys that were not adopted, and may be older
}

// adopt finds, for each name of the local queue, a key of the former process that fits a waiter,
// and takes its slot; nil if there is none.
func (l *localQueue) adopt(wanted *lazyctx.Context, ls *lease.Lease, w *waiter) []wire.Slot {
	l.legacy = legacy{}
	if !l.mayInherit(ls) {
		return nil
	}
	all, err := l.ownKeys(wanted, ls)
	if err != nil {
		return nil // the next request shows the error
	}
	value := w.value()
	m := l.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	fits := func(i int, kv *mvccpb.KeyValue) (wire.Slot, bool) {
		k, ok := wire.ParseKey(string(kv.Key))
		unused := m.unused(k) || l.private() && l.slots[i] == k.Slot // taken for this waiter
		return k.Slot, ok && unused && k.Slot.Ranked(w.Rank) && queue.Becomes(kv.Value, value)
	}
	unused := 0
	for _, kv := range slices.Concat(all...) {
		if k, _ := wire.ParseKey(string(kv.Key)); m.unused(k) {
			unused++
		}
	}
	l.legacy.others = unused > len(l.names)
	for _, oldest := range all[0] {
		var slots []wire.Slot
		for i := range l.names {
			for _, kv := range all[i] { // of the name l.names[i]
				// Keys of several names that were not written together are no entry of a set.
				if slot, ok := fits(i, kv); ok && kv.CreateRevision == oldest.CreateRevision {
					slots = append(slots, slot)
					break
				}
			}
		}
		if len(slots) < len(l.names) {
			continue
		}
		for i, slot := range slots {
			_, _ = m.names.Hold(l.names[i], slot)
		}
		l.legacy.adopted = true
		return slots
	}
	return nil
}

// adoptOwn changes the slots of a private local queue to those of an entry of the former process
// that fits.
func (l *localQueue) adoptOwn(wanted *lazyctx.Context, ls *lease.Lease, w *waiter) {
	slots := l.adopt(wanted, ls, w)
	if slots == nil {
		return
	}
	m := l.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, slot := range l.slots {
		if slot != slots[i] {
			m.dropSlot(l.names[i], slot)
		}
	}
	l.slots = slots
	if set, ok := l.queue.(*queue.Set); ok {
		set.Use(slots)
	}
}

// clearWay deletes the keys of the former process that are in the way of a waiter. e is its entry,
// or nil if it was refused. clearWay returns false if there were no such keys.
func (l *localQueue) clearWay(wanted *lazyctx.Context, ls *lease.Lease, w *waiter, e *queue.Entry) (cleared bool) {
	if !l.mayInherit(ls) || e != nil && l.legacy.adopted && !l.legacy.others {
		return false // what has come since is younger than the entry
	}
	for _, name := range l.names {
		cleared = l.manager.cfg.RevokeFormer(ls.Context(), name) || cleared
	}
	all, err := l.ownKeys(wanted, ls)
	if err != nil {
		return cleared // what waits for an answer of etcd goes on waiting
	}
	others := slices.Concat(all...)
	if w.Rule != nil && e != nil {
		if others, err = l.single.AwaitList(ls.Context()); err != nil {
			return cleared
		}
	}
	m := l.manager
	m.mu.Lock()
	var keys []wire.Parsed
	var rest []*mvccpb.KeyValue
	for _, kv := range others {
		if k, ok := wire.ParseKey(string(kv.Key)); ok && m.unused(k) {
			if e == nil || w.Candidate || kv.CreateRevision < e.CreateRevision {
				keys = append(keys, k)
			}
		} else {
			rest = append(rest, kv)
		}
	}
	m.mu.Unlock()
	if len(keys) == 0 {
		return cleared
	}
	if w.Rule != nil && e != nil && (!e.Blocked(w.value(), others) || e.Blocked(w.value(), rest)) {
		// Later calls may hold them beside this one. Other entries are in the way.
		keys = slices.DeleteFunc(keys, func(k wire.Parsed) bool { return !l.excludes(k, w, others) })
	}
	if err := m.DeleteAdopted(ls.Context(), keys); err != nil {
		if ls.Err() == nil {
			m.cfg.Log.Error("cannot release what the previous process held; calls wait until its lease ends",
				zap.String("name", l.name), zap.String("lease", wire.Hex(ls.ID())), zap.Error(err))
		}
		return cleared
	}
	return cleared || len(keys) > 0
}

// clearName deletes all keys of the former process under a name. A reader that is becoming a writer
// would wait for them.
func (m *Manager) clearName(ctx context.Context, ls *lease.Lease, name string) error {
	m.mu.Lock()
	may := m.mayInherit(ls, name)
	m.mu.Unlock()
	if !may {
		return nil
	}
	all, err := m.cfg.Queues.OwnKeys(ctx, ls.ID(), []string{name})
	if err != nil {
		return err
	}
	var keys []wire.Parsed
	for _, kv := range all[0] {
		k, _ := wire.ParseKey(string(kv.Key))
		keys = append(keys, k)
	}
	return m.DeleteAdopted(ctx, keys)
}

// excludes tells whether a key is of another mode, so that a waiter is never admitted beside it.
func (l *localQueue) excludes(k wire.Parsed, w *waiter, all []*mvccpb.KeyValue) bool {
	key := wire.SlotKey(k.Name, k.Lease, k.Slot)
	return slices.ContainsFunc(all, func(kv *mvccpb.KeyValue) bool {
		return string(kv.Key) == key && wire.Wants(kv.Value).Mode != w.Mode
	})
}

// Adopt notes that the first lease is that of a former process. It ends the time in which keys of
// that process are looked for. With a lease file, keys that no call has asked for are deleted after
// one TTL, and later again if they come late. Otherwise these keys stay, and their names are
// remembered.
func (m *Manager) Adopt(l *lease.Lease) {
	m.heir = l.ID()
	began, ttl := time.Now(), l.TTL()
	at := []time.Duration{max(ttl, sweeper.LateEffect)}
	if m.cfg.GivesUp {
		at = []time.Duration{ttl}
		for _, late := range slices.Concat([]time.Duration{sweeper.LateEffect}, sweeper.LateSweeps) {
			if late > ttl {
				at = append(at, late)
			}
		}
	}
	m.tasks.Go(func() {
		for _, next := range at {
			for after := time.Until(began.Add(next)); ; after = ttl / 3 {
				if !sleep(m.cfg.Life, after) {
					return
				}
				if m.leaseID() != m.heir {
					return
				}
				err := m.settleLegacyOnce(time.Since(began) >= sweeper.LateEffect)
				if err == nil {
					break
				}
				if m.cfg.Life.Err() == nil {
					m.cfg.Log.Warn("cannot release yet what the previous process held", zap.Error(err))
				}
			}
		}
	})
}

func (m *Manager) settleLegacyOnce(last bool) error {
	ctx, cancel := context.WithTimeout(m.cfg.Life, legacyTimeout)
	defer cancel()
	keys, err := m.Adopted(ctx)
	if err == nil && m.cfg.GivesUp {
		err = errors.Join(m.DeleteAdopted(ctx, keys), m.DeleteAdoptedRequests(ctx))
		keys = nil
	}
	if err != nil || !last {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.legacy = make(map[string]bool)
	for _, k := range keys {
		m.legacy[k.Name] = true
	}
	return nil
}

// legacyTimeout bounds one try to find and delete the keys of the former process.
const legacyTimeout = 5 * time.Second

// sleep waits; false if ctx ends before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
