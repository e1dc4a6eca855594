package etcdlock

import (
	"context"
	"errors"
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
	return s.disown(ctx, id, own)
}

// Inherited lists the names under which a key of the session's lease stands since before
// the session took that over ([WithLease], [WithLeaseFile]), and which nobody in this
// process has asked for since. Such a key is a lock, a term or a place in line that stands
// in everybody's way for as long as the session lives. It blocks until etcd has answered
// or ctx ends.
func (s *Session) Inherited(ctx context.Context) ([]string, error) {
	names, err := s.inherited(ctx)
	return names, opError("list what was inherited by", "the session", err)
}

func (s *Session) inherited(ctx context.Context) ([]string, error) {
	id := s.Lease()
	if err := s.Err(); err != nil {
		return nil, err
	}
	if id == clientv3.NoLease || id != s.heir {
		return nil, nil
	}
	resp, err := s.client.TimeToLive(ctx, id, clientv3.WithAttachedKeys())
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, key := range resp.Keys {
		name, ok := strings.CutSuffix(string(key), "/"+hex(id))
		if l := s.lines[name]; ok && wire.CheckName(name) == nil && (l == nil || l.resting) {
			names = append(names, name)
		}
	}
	return names, nil
}

// DropInherited gives up what [Session.Inherited] lists, or of that these names, in the
// way in which a lock is unlocked: nothing is touched that this process holds or waits for
// meanwhile. It blocks until etcd has confirmed it or ctx ends.
func (s *Session) DropInherited(ctx context.Context, names ...string) error {
	inherited, err := s.inherited(ctx)
	for _, name := range inherited {
		if len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		err = errors.Join(err, s.drop(ctx, name))
	}
	return opError("give up what was inherited by", "the session", err)
}

// drop takes what stands under a name, to give it back at once: so the line of the name
// settles who has it here.
func (s *Session) drop(ctx context.Context, name string) error {
	resp, err := s.client.Get(ctx, wire.Key(name, s.heir))
	if err != nil || len(resp.Kvs) == 0 {
		return err
	}
	value := string(resp.Kvs[0].Value) // it stays as it is for as long as it stands
	h, err := s.acquire(ctx, name, claim{as: "to give up " + value, value: func() string { return value }, try: true})
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
