package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// inherit makes a lease that was taken over one of this process, for those who judge by
// addresses; see disown.
func (s *Session) inherit(ctx context.Context, id clientv3.LeaseID) error {
	var own aliveRecord
	if s.beacon != nil {
		own = s.beacon.record
	}
	err := s.disown(ctx, id, own)
	if errors.Is(err, errCondemned) {
		// The process that condemned it may have died since. Until the lease has run out, its
		// keys would stand ahead of our own.
		_ = s.insist(ctx, func(ctx context.Context) error {
			_, err := s.leases.Revoke(ctx, id)
			return err
		})
	}
	return err
}

// Inherited lists the names under which a key of the session's lease stands since before
// the session took that over ([WithLease], [WithLeaseFile]), and which nobody in this
// process has asked for since. Such a key is a lock, a term or a place in line that stands
// in everybody's way for as long as the session lives. It blocks until etcd has answered
// or ctx ends.
func (s *Session) Inherited(ctx context.Context) ([]string, error) {
	keys, err := s.inherited(ctx)
	var names []string
	for _, k := range keys {
		names = append(names, k.name)
	}
	slices.Sort(names)
	return slices.Compact(names), opError("list what was inherited under", "lease "+hex(s.heir), err)
}

// DropInherited gives up what [Session.Inherited] lists, or of that these names, in the
// way in which a lock is unlocked. It blocks until etcd has confirmed it or ctx ends.
func (s *Session) DropInherited(ctx context.Context, names ...string) error {
	keys, err := s.inherited(ctx)
	for _, k := range keys {
		if len(names) == 0 || slices.Contains(names, k.name) {
			err = errors.Join(err, s.drop(ctx, k))
		}
	}
	return opError("give up what was inherited under", "lease "+hex(s.heir), err)
}

// inheritedKey is a key of the process before.
type inheritedKey struct {
	key, name string
	plain     bool // the one that a session has under a name in the first place
}

func (s *Session) inherited(ctx context.Context) ([]inheritedKey, error) {
	id := s.Lease()
	if err := s.Err(); err != nil {
		return nil, err
	}
	if id == clientv3.NoLease || id != s.heir {
		return nil, nil
	}
	resp, err := s.leases.TimeToLive(ctx, id, clientv3.WithAttachedKeys())
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []inheritedKey
	for _, b := range resp.Keys {
		key := string(b)
		name, ok := wire.NameOf(key)
		suffix, ours := strings.CutPrefix(key, wire.Key(name, id))
		if !ok || !ours || suffix != "" && suffix[0] != '.' || s.uses(name, suffix) {
			continue
		}
		all = append(all, inheritedKey{key: key, name: name, plain: suffix == ""})
	}
	return all, nil
}

// uses tells whether the key that ends so, behind its lease, is in use by this process.
// Called with s.mu held.
func (s *Session) uses(name, suffix string) bool {
	n := 0
	if _, err := fmt.Sscanf(suffix, ".%d", &n); err == nil && n > 0 {
		return s.slots.busy(name, wire.Slot{N: n, Priority: wire.Priority(suffix)})
	}
	return s.using[name] > 0 && (!s.forgetResting() || s.using[name] > 0)
}

// drop gives a key up. The one that everybody comes upon is taken for that as a lock is,
// and given back at once: so the line of the name settles who has it here.
func (s *Session) drop(ctx context.Context, k inheritedKey) error {
	resp, err := s.kv.Get(ctx, k.key)
	if err != nil || len(resp.Kvs) == 0 {
		return err
	}
	kv := resp.Kvs[0]
	if !k.plain {
		_, err := s.kv.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(k.key), "=", kv.ModRevision)). // nobody has come upon it yet
			Then(clientv3.OpDelete(k.key)).Commit()
		return err
	}
	value := string(kv.Value) // it stays as it is for as long as it stands
	h, err := s.acquire(ctx, k.name, claim{as: "to give up " + value, own: func() string { return value }, try: true})
	if errors.Is(err, ErrLocked) {
		return nil // somebody here has it; or somebody else was ahead, and the place is given up
	}
	if err != nil {
		return err
	}
	return h.release(ctx)
}

// dropLater gives up, after one TTL, what nobody has asked for.
func (s *Session) dropLater() {
	if s.file == nil || s.heir == clientv3.NoLease {
		return
	}
	s.tasks.Go(func() {
		for after := s.TTL(); ; after = s.TTL() / 3 {
			select {
			case <-time.After(after):
			case <-s.ctx.Done():
				return
			}
			ctx, cancel := context.WithTimeout(s.ctx, tryTimeout)
			err := s.DropInherited(ctx)
			cancel()
			if err == nil || s.ctx.Err() != nil {
				return
			}
			s.log.Warn("cannot give up yet what the process before had", zap.Error(err))
		}
	})
}
