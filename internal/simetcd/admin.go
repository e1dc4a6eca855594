package simetcd

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Stop stops the whole etcd. Calls in flight and open streams break with codes.Unavailable. Messages on their way to the
// server are lost. Later calls and streams wait until Start or the end of their context, which is clientv3's default. Data
// and leases survive, and no lease expires meanwhile.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.uptime.down {
		return
	}
	s.uptime.stop()
	s.lessor.pause()
	for _, l := range s.links {
		l.serverGone()
	}
}

// Start brings a stopped etcd back, with a new leader: every lease gets its full TTL again.
func (s *Server) Start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.uptime.down {
		return
	}
	s.member.elect()
	s.lessor.refreshAll()
	s.uptime.start(s.sched, s.cfg.Reproducible)
}

// NewLeader elects a raft leader, as after a longer time without one. Every lease gets its full TTL again. Streams that were
// opened with clientv3.WithRequireLeader break with rpctypes.ErrGRPCNoLeader, among them all on which clientv3 renews
// leases. Requests do not fail; Action.Err makes them.
func (s *Server) NewLeader() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.member.elect()
	if !s.uptime.down {
		s.lessor.refreshAll()
	}
	s.eachStream(func(st *stream) {
		if st.requireLeader {
			st.breakOff(rpctypes.ErrGRPCNoLeader)
		}
	})
}

func (s *Server) eachStream(f func(*stream)) {
	for _, l := range s.links {
		for _, st := range slices.Clone(l.streams) {
			f(st)
		}
	}
}

// Compact compacts the history before revision rev, the current one when rev is 0. Watches from before rev that have
// not caught up yet, or come later, are cancelled with a CompactRevision, and reads before rev fail.
func (s *Server) Compact(rev int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rev == 0 {
		rev = s.store.rev
	}
	// The error says that rev is compacted already, which needs no report.
	_ = s.compact(rev)
}

// CutWatches breaks every watch stream with codes.Unavailable. clientv3 opens them again by itself, from where they were.
func (s *Server) CutWatches() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.eachStream(func(st *stream) {
		if st.feed != nil {
			st.breakOff(errUnavailable)
		}
	})
}

// CancelWatches cancels every watch from the server's side with that reason. clientv3 then closes the WatchChan.
func (s *Server) CancelWatches(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hub.cancelAll(reason)
}

// MissDelete hides the next deletion of key from all watches, including later watches of the past. Two calls hide two
// deletions.
func (s *Server) MissDelete(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hub.miss(key)
}

// RevokeLease revokes a lease, as an administrator does, and reports whether it existed.
func (s *Server) RevokeLease(id clientv3.LeaseID) bool {
	s.mu.Lock()
	defer s.unlock()
	found := s.lessor.get(int64(id)) != nil
	s.revoke(int64(id))
	return found
}

// AgeLease shortens the rest of a lease, as if time had passed for this lease only. A lease without a rest expires.
func (s *Server) AgeLease(id clientv3.LeaseID, by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.lessor.get(int64(id)); l != nil && !s.uptime.down {
		s.lessor.expireAt(l, l.expiry-int64(by))
	}
}

// DeleteKey deletes a key and reports whether it existed.
func (s *Server) DeleteKey(key string) bool {
	s.mu.Lock()
	defer s.unlock()
	t := s.begin()
	n := t.writing.deleteRange([]byte(key), nil)
	s.commit(t)
	return n > 0
}

// PutKey writes a key, with a lease unless it is clientv3.NoLease, and returns the revision. It panics when the lease
// does not exist.
func (s *Server) PutKey(key, value string, lease clientv3.LeaseID) int64 {
	s.mu.Lock()
	defer s.unlock()
	if lease != clientv3.NoLease && s.lessor.get(int64(lease)) == nil {
		panic("simetcd: PutKey with a lease that does not exist")
	}
	t := s.begin()
	t.writing.put(key, []byte(value), int64(lease))
	s.commit(t)
	return s.store.rev
}

// GrantLease makes a lease for a foreign client, which does not renew it, and returns its ID.
func (s *Server) GrantLease(ttl time.Duration) clientv3.LeaseID {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.lessor.pickID()
	// The ID is new, and a TTL in a Duration is never too large.
	_, _ = s.lessor.grant(id, wholeSeconds(ttl))
	return clientv3.LeaseID(id)
}

// SetMinTTL changes Config.MinTTL for the leases granted from now on.
func (s *Server) SetMinTTL(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lessor.minTTL = wholeSeconds(d)
}

// Keys returns what is stored under a prefix, in the order of creation; keys of one revision by key.
func (s *Server) Keys(prefix string) []*mvccpb.KeyValue {
	s.mu.Lock()
	defer s.mu.Unlock()
	var kvs []*mvccpb.KeyValue
	for _, kv := range s.store.scan([]byte(prefix), []byte(fromKey), s.store.rev) {
		if strings.HasPrefix(string(kv.Key), prefix) {
			kvs = append(kvs, copyKV(kv))
		}
	}
	slices.SortStableFunc(kvs, func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.CreateRevision, b.CreateRevision) })
	return kvs
}

// Get returns what is stored under key, or nil.
func (s *Server) Get(key string) *mvccpb.KeyValue {
	s.mu.Lock()
	defer s.mu.Unlock()
	return copyKV(s.store.get(key, s.store.rev))
}

// Leases returns the leases that are alive, in order of their IDs.
func (s *Server) Leases() []clientv3.LeaseID {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []clientv3.LeaseID
	for _, id := range s.lessor.ids() {
		ids = append(ids, clientv3.LeaseID(id))
	}
	return ids
}

// LeaseExpiry returns when a lease will expire unless it is renewed, the zero time when there is no such lease. While
// the server is stopped that is the time at which it would have.
func (s *Server) LeaseExpiry(id clientv3.LeaseID) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lessor.get(int64(id))
	if l == nil {
		return time.Time{}
	}
	return s.sched.start.Add(time.Duration(l.expiry))
}

// Revision returns the current revision.
func (s *Server) Revision() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store.rev
}
