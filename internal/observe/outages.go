package observe

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/timeline"
)

const (
	// longOutage is the length of an outage that puts every leader in doubt. A leader with a short
	// TTL is in doubt after half of the TTL, because its lease was renewed at most a third of the
	// TTL before the outage. A long TTL proves little: it may include a lock-delay, on which the
	// leader does not rely.
	longOutage = 5 * time.Second
	// expirySlack is how much longer than its TTL etcd may keep a lease that is not renewed.
	expirySlack = 2 * time.Second
	// ttlTimeout bounds the request for the TTL of a lease.
	ttlTimeout = time.Second
)

// outages marks leaders that may have given up during the last outage of etcd. A leader gives up
// when it could not renew its lease for nearly a TTL. An etcd without a raft leader lets no lease
// expire, and a new raft leader gives each lease its full TTL. So the key of a leader that has
// given up stands for up to a TTL after an outage.
type outages struct {
	last       func() timeline.Outage
	leases     clientv3.Lease
	defaultTTL func() time.Duration

	mu    sync.Mutex
	since time.Time // the end of the outage since which ttls were asked for
	ttls  map[clientv3.LeaseID]time.Duration
}

// mark sets At and Unconfirmed of a head that was read now. It asks etcd for the TTL of a lease once
// after an outage.
func (o *outages) mark(ctx context.Context, head queue.Head) queue.Head {
	head.At = time.Now()
	outage := o.last()
	if head.First == nil || head.First.Lease == 0 || outage.Until.IsZero() {
		return head
	}
	if head.First.ModRevision > outage.Revision {
		return head // it was written after the outage, by a session with a lease
	}
	ttl := o.ttl(ctx, outage.Until, clientv3.LeaseID(head.First.Lease))
	head.Unconfirmed = outage.Until.Sub(outage.From) >= min(ttl/2, longOutage) && time.Since(outage.Until) < ttl+expirySlack
	return head
}

// ttl returns the TTL of a lease, or the default one if etcd does not tell it.
func (o *outages) ttl(ctx context.Context, since time.Time, id clientv3.LeaseID) time.Duration {
	if ttl, known := o.known(since, id); known {
		return ttl
	}
	ctx, cancel := context.WithTimeout(ctx, ttlTimeout)
	defer cancel()
	resp, err := o.leases.TimeToLive(ctx, id)
	if err != nil || resp.GrantedTTL <= 0 {
		return o.defaultTTL()
	}
	ttl := time.Duration(resp.GrantedTTL) * time.Second
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.Equal(since) { // otherwise the answer is older than another outage
		o.ttls[id] = ttl
	}
	return ttl
}

// known returns the TTL of a lease that was asked for since an outage. With another outage it
// forgets the TTLs of before.
func (o *outages) known(since time.Time, id clientv3.LeaseID) (ttl time.Duration, known bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.since.Equal(since) {
		o.since, o.ttls = since, make(map[clientv3.LeaseID]time.Duration)
	}
	ttl, known = o.ttls[id]
	return ttl, known
}
