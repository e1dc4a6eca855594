package etcdlock

import (
	"context"
	"fmt"
	"slices"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// Under a lease that was taken over stand keys of the former process. A call adopts the oldest
// of them that fits what it wants, under its name and in whatever slot; or it gives up those
// that are in its way, as it would wait for a key of its own session. Whether a key is in
// use is asked of the slot table: the owner of a key in this process has its slot.

// Adopted lists the names of the keys that came with an adopted lease ([WithLease],
// [WithLeaseFile]) and that no call of this process has asked for since. Such a key is a lock, a
// term or a place in a queue of the former process. It keeps every other session out for as long
// as this session lives. Adopted blocks until etcd has answered or ctx ends. The list is empty
// once the adopted lease is lost.
func (s *Session) Adopted(ctx context.Context) ([]string, error) {
	if err := s.valid(); err != nil {
		return nil, fmt.Errorf("etcdlock: list what was adopted: %w", err)
	}
	keys, err := s.manager.Adopted(ctx)
	var names []string
	for _, k := range keys {
		names = append(names, k.Name)
	}
	slices.Sort(names)
	return slices.Compact(names), opError("list what was adopted with", "lease "+wire.Hex(s.manager.AdoptedLease()), err)
}

// ReleaseAdopted deletes the keys of the names that [Session.Adopted] lists, or of the given names
// among them. A key that this process uses is never deleted. Without names it also withdraws the
// requests of [Session.Ask] that the former process left. It blocks until etcd has confirmed
// the deletion or ctx ends. After an error it is unknown which of the keys are gone: call it
// again.
func (s *Session) ReleaseAdopted(ctx context.Context, names ...string) error {
	if err := s.valid(); err != nil {
		return fmt.Errorf("etcdlock: release what was adopted: %w", err)
	}
	keys, err := s.manager.Adopted(ctx)
	keys = slices.DeleteFunc(keys, func(k wire.Parsed) bool { return len(names) > 0 && !slices.Contains(names, k.Name) })
	if err == nil {
		err = s.manager.DeleteAdopted(ctx, keys)
	}
	if err == nil && len(names) == 0 {
		err = s.manager.DeleteAdoptedRequests(ctx)
	}
	return opError("release what was adopted with", "lease "+wire.Hex(s.manager.AdoptedLease()), err)
}
