package etcdlock

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/queue"
)

// A leader gives up when it could not renew its lease for nearly a TTL. An etcd without a raft
// leader lets no lease expire, and a new raft leader gives each lease its full TTL. So the key of a
// leader that has given up stands for up to a TTL after an outage.

const (
	// longOutage is how long an outage is at least that puts leaders in doubt. A leader with a
	// short TTL is in doubt after half of it: its lease was renewed a third of the TTL
	// before the outage at the latest. A long TTL proves little, as a lock-delay may be a part
	// of it that the leader does not count on.
	longOutage = 5 * time.Second
	// expirySlack is how much longer than its TTL etcd may keep a lease that nobody renews.
	expirySlack = 2 * time.Second
	// ttlTimeout bounds the request for a lease's TTL.
	ttlTimeout = time.Second
)

// outageTTLs are the TTLs of the leases that were asked for since an outage.
type outageTTLs struct {
	outage time.Time // its end
	of     map[clientv3.LeaseID]time.Duration
}

// judge notes of a head that was read now whether the first entry may have given up. It asks
// etcd for the TTL of a lease, once after an outage.
func (s *Session) judge(ctx context.Context, h queue.Head) queue.Head {
	h.At = time.Now()
	o := s.timeline.Outage()
	if h.First == nil || o.Until.IsZero() || h.First.Lease == 0 || h.First.ModRevision > o.Revision {
		return h // written since, by a session that lives
	}
	ttl := s.ttlSince(ctx, o.Until, clientv3.LeaseID(h.First.Lease))
	h.Unconfirmed = o.Until.Sub(o.From) >= min(ttl/2, longOutage) && time.Since(o.Until) < ttl+expirySlack
	return h
}

// ttlSince is the TTL of a lease, or that of the session where etcd does not tell.
func (s *Session) ttlSince(ctx context.Context, outage time.Time, id clientv3.LeaseID) time.Duration {
	s.mu.Lock()
	if s.ttls.outage != outage {
		s.ttls = outageTTLs{outage, make(map[clientv3.LeaseID]time.Duration)}
	}
	ttl, own := s.ttls.of[id], s.lease.TTL()
	s.mu.Unlock()
	if ttl > 0 {
		return ttl
	}
	ctx, cancel := context.WithTimeout(ctx, ttlTimeout)
	defer cancel()
	resp, err := s.leases.TimeToLive(ctx, id)
	if err != nil || resp.GrantedTTL <= 0 {
		return own
	}
	ttl = time.Duration(resp.GrantedTTL) * time.Second
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ttls.outage.Equal(outage) {
		s.ttls.of[id] = ttl
	}
	return ttl
}
