// Package adoption has the keys of a former process under the lease that this process has adopted. A
// call adopts the oldest of them that fits what it wants, under its name and in any slot. It deletes
// keys that are in its way, because it would wait for a key of its own session. A key is in use if its
// slot has an owner in this process.
package adoption

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/names"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/sweeper"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Config is what a Former is made with.
type Config struct {
	Life    context.Context // ends with the session
	Names   *names.Table
	KV      clientv3.KV
	Leases  clientv3.Lease // lists the keys of a lease
	Queues  *queue.Queues
	Log     *zap.Logger
	GivesUp bool // true: keys that no call has asked for in time are deleted

	// Insist sends a request until etcd gives an answer that counts, or ctx ends.
	Insist func(ctx context.Context, try func(context.Context) error) error
	// Revoke revokes the lease that a Run of the former process had for a name, if there is one.
	Revoke func(ctx context.Context, name string) (ended bool)
	// Present returns the present lease of the session; NoLease for none.
	Present func() clientv3.LeaseID
	// Drop gives up a slot.
	Drop func(name string, slot wire.Slot)
	// Posted reports whether a key is a release request under a lease that no call of this process has
	// posted.
	Posted func(key string, lease clientv3.LeaseID) bool
}

// Former has what a former process left under an adopted lease.
type Former struct {
	cfg   Config
	lease clientv3.LeaseID // the adopted one, NoLease for none; not changed once a call can be made
	tasks sync.WaitGroup

	mu     sync.Mutex
	stands map[string]bool // names with keys that may stand; nil: any may; guarded by mu
}

// New returns a Former without an adopted lease.
func New(cfg Config) *Former { return &Former{cfg: cfg} }

// AdoptedLease returns the lease that was adopted; NoLease for none.
func (f *Former) AdoptedLease() clientv3.LeaseID { return f.lease }

// Adopted lists the keys of the former process that this process does not use.
func (f *Former) Adopted(ctx context.Context) ([]wire.Parsed, error) {
	all, err := f.keys(ctx)
	return slices.DeleteFunc(all, func(k wire.Parsed) bool { return !f.unused(k) }), err
}

// keys lists all keys in queues under the adopted lease.
func (f *Former) keys(ctx context.Context) ([]wire.Parsed, error) {
	id := f.cfg.Present()
	if err := context.Cause(f.cfg.Life); err != nil {
		return nil, err
	}
	if id == clientv3.NoLease || id != f.lease {
		return nil, nil
	}
	var resp *clientv3.LeaseTimeToLiveResponse
	err := f.cfg.Insist(ctx, func(ctx context.Context) (err error) {
		resp, err = f.cfg.Leases.TimeToLive(ctx, id, clientv3.WithAttachedKeys())
		return err
	})
	if err != nil {
		return nil, err
	}
	var all []wire.Parsed
	for _, key := range resp.Keys {
		if k, ok := wire.ParseKey(string(key)); ok && k.Lease == f.lease {
			all = append(all, k)
		}
	}
	return all, nil
}

// DeleteAdoptedRequests deletes, under the adopted lease, the posted release requests of calls in which
// the former process was killed, and its inboxes. Holders would be asked for as long as the session lives.
// An entry of this process that loses its inbox looks for itself.
func (f *Former) DeleteAdoptedRequests(ctx context.Context) error {
	if id := f.cfg.Present(); id == clientv3.NoLease || id != f.lease {
		return nil
	}
	return f.cfg.Insist(ctx, func(ctx context.Context) error {
		resp, err := f.cfg.Leases.TimeToLive(ctx, f.lease, clientv3.WithAttachedKeys())
		if err != nil {
			return err
		}
		for _, key := range resp.Keys {
			if f.cfg.Posted(string(key), f.lease) || wire.IsInbox(string(key), f.lease) {
				if _, err := f.cfg.KV.Delete(ctx, string(key)); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// unused reports whether a key of the adopted lease has no owner in this process.
func (f *Former) unused(k wire.Parsed) bool {
	return k.Lease == f.lease && !f.cfg.Names.Busy(k.Name, k.Slot)
}

// DeleteAdopted deletes keys of the former process, except for keys that have an owner in this
// process by now.
func (f *Former) DeleteAdopted(ctx context.Context, keys []wire.Parsed) error {
	var swept []queue.Swept
	var took []wire.Parsed
	for _, k := range keys {
		if k.Lease != f.lease {
			continue
		}
		if held, _ := f.cfg.Names.Hold(k.Name, k.Slot); held {
			took = append(took, k)
			swept = append(swept, queue.Swept{Name: k.Name, Key: wire.SlotKey(k.Name, k.Lease, k.Slot)})
		}
	}
	defer func() {
		for _, k := range took {
			f.cfg.Drop(k.Name, k.Slot)
		}
	}()
	for some := range slices.Chunk(swept, queue.MostSwept) {
		if err := f.cfg.Insist(ctx, func(ctx context.Context) error { return f.cfg.Queues.Sweep(ctx, some) }); err != nil {
			return err
		}
	}
	return nil
}

// MayStand reports whether a key of the former process may stand under a lease and one of some names.
// Otherwise Fit and Clear need not be called.
func (f *Former) MayStand(id clientv3.LeaseID, all ...string) bool {
	if f.lease == clientv3.NoLease || id != f.lease {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stands == nil || slices.ContainsFunc(all, func(name string) bool { return f.stands[name] })
}

// Adopt notes that the first lease is that of a former process. It ends the time in which keys of
// that process are looked for. With a lease file, keys that no call has asked for are deleted after
// one TTL, and later again if they come late. Otherwise these keys stay, and their names are
// remembered.
func (f *Former) Adopt(l *lease.Lease) {
	f.lease = l.ID()
	began, ttl := time.Now(), l.TTL()
	at := []time.Duration{max(ttl, sweeper.LateEffect)}
	if f.cfg.GivesUp {
		at = []time.Duration{ttl}
		for _, late := range slices.Concat([]time.Duration{sweeper.LateEffect}, sweeper.LateSweeps) {
			if late > ttl {
				at = append(at, late)
			}
		}
	}
	f.tasks.Go(func() {
		for _, next := range at {
			for after := time.Until(began.Add(next)); ; after = ttl / 3 {
				if !sleep(f.cfg.Life, after) {
					return
				}
				if f.cfg.Present() != f.lease {
					return
				}
				err := f.settle(time.Since(began) >= sweeper.LateEffect)
				if err == nil {
					break
				}
				if f.cfg.Life.Err() == nil {
					f.cfg.Log.Warn("cannot release yet what the previous process held", zap.Error(err))
				}
			}
		}
	})
}

// Wait blocks until the goroutine of Adopt has ended, which it does when the session ends.
func (f *Former) Wait() { f.tasks.Wait() }

// settleTimeout bounds one try to find and delete the keys of the former process.
const settleTimeout = 5 * time.Second

// settle deletes or remembers the keys that no call has asked for so far.
func (f *Former) settle(last bool) error {
	ctx, cancel := context.WithTimeout(f.cfg.Life, settleTimeout)
	defer cancel()
	keys, err := f.keys(ctx)
	var used []wire.Parsed
	for _, k := range keys {
		if !f.unused(k) {
			used = append(used, k)
		}
	}
	if err == nil && f.cfg.GivesUp {
		err = errors.Join(f.DeleteAdopted(ctx, keys), f.DeleteAdoptedRequests(ctx))
		keys = used
	}
	if err != nil || !last {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stands = make(map[string]bool)
	for _, k := range keys {
		f.stands[k.Name] = true // also if a call uses it, which may fail and leave it
	}
	return nil
}

// gone forgets names under which no key stands, once no late one can come.
func (f *Former) gone(all []string, keys [][]*mvccpb.KeyValue) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, name := range all {
		if f.stands != nil && len(keys[i]) == 0 {
			delete(f.stands, name)
		}
	}
}

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
