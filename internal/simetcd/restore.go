package simetcd

import (
	"maps"
	"slices"
)

// A Snapshot is the data of a server at one revision: keys with their history, and leases.
type Snapshot struct {
	store  *store
	leases []lease
}

// Snapshot takes a snapshot, as etcdctl does.
func (s *Server) Snapshot() *Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap := &Snapshot{store: s.store.copy()}
	for _, id := range s.lessor.ids() {
		l := s.lessor.get(id)
		snap.leases = append(snap.leases, lease{id: l.id, ttl: l.ttl, keys: maps.Clone(l.keys)})
	}
	return snap
}

// Restored says how a server is restored.
type Restored struct {
	// Cluster is the ID that the cluster has from then on, as with another cluster token; 0 for
	// the one that it has.
	Cluster uint64
	// BumpRevision is added to the revision.
	BumpRevision int64
	// MarkCompacted compacts all history.
	MarkCompacted bool
}

// Restore replaces the data of a server that is stopped: by that of a snapshot, or by none for
// nil. Members keep their addresses, and clients notice nothing but what the data tells. Each
// lease of the snapshot gets its full TTL by Start.
func (s *Server) Restore(snap *Snapshot, how Restored) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.uptime.down {
		panic("simetcd: Restore of a server that is not stopped")
	}
	if snap == nil {
		snap = &Snapshot{store: newStore()}
	}
	for _, id := range s.lessor.ids() {
		s.lessor.remove(s.lessor.get(id))
	}
	for _, l := range snap.leases {
		s.lessor.leases[l.id] = &lease{id: l.id, ttl: l.ttl, keys: maps.Clone(l.keys)}
	}
	s.store.replace(snap.store, how)
	s.member.restore(how.Cluster)
}

// replace makes a store one that was restored from another one.
func (st *store) replace(by *store, how Restored) {
	attached := st.attached
	*st = *by.copy()
	st.attached = attached
	st.rev += how.BumpRevision
	if how.MarkCompacted {
		st.compact(st.rev)
	}
}

// copy copies a store. What is in it is never modified.
func (st *store) copy() *store {
	c := &store{rev: st.rev, compacted: st.compacted, keys: make(map[string][]version, len(st.keys))}
	for key, vs := range st.keys {
		c.keys[key] = slices.Clone(vs)
	}
	c.order, c.log = slices.Clone(st.order), slices.Clone(st.log)
	return c
}
