package simetcd

import (
	"cmp"
	"slices"
	"sort"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// maxLeaseTTL is etcd's upper bound.
const maxLeaseTTL = 9000000000

// A lease lives until its expiry event.
type lease struct {
	id     int64
	ttl    int64 // seconds, as granted
	expiry int64 // an instant of the schedule
	event  *event
	keys   map[string]struct{}
}

func (l *lease) duration() int64 { return l.ttl * int64(time.Second) }

// sortedKeys is the order in which etcd deletes a dead lease's keys.
func (l *lease) sortedKeys() []string {
	keys := make([]string, 0, len(l.keys))
	for k := range l.keys {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// A lessor holds the leases of a server.
type lessor struct {
	sched  *schedule
	seed   uint64
	leases map[int64]*lease
	picked map[uint64]uint64 // how many IDs were picked, by the sequence
	minTTL int64
	// expire revokes an expired lease.
	expire func(id int64)
}

func newLessor(sched *schedule, seed uint64) *lessor {
	return &lessor{sched: sched, seed: seed, leases: make(map[int64]*lease), picked: make(map[uint64]uint64)}
}

func (le *lessor) get(id int64) *lease { return le.leases[id] }

// attached keeps the lists of keys; a lease that is gone has none to keep.
func (le *lessor) attached(key string, before, after int64) {
	if l := le.leases[before]; l != nil {
		delete(l.keys, key)
	}
	if l := le.leases[after]; l != nil {
		l.keys[key] = struct{}{}
	}
}

func (le *lessor) grant(id, ttl int64) (*lease, error) {
	if ttl > maxLeaseTTL {
		return nil, rpctypes.ErrGRPCLeaseTTLTooLarge
	}
	if le.leases[id] != nil {
		return nil, rpctypes.ErrGRPCLeaseExist
	}
	l := &lease{id: id, ttl: max(ttl, le.minTTL), keys: make(map[string]struct{})}
	le.leases[id] = l
	le.refresh(l)
	return l, nil
}

// pickID picks IDs that neither grow nor have one length, so that no test relies on either.
func (le *lessor) pickID() int64 { return le.pickIDOf(hashName("lease")) }

// pickIDOf picks the next ID of a sequence; none is picked twice.
func (le *lessor) pickIDOf(salt uint64) int64 {
	for {
		le.picked[salt]++
		n := le.picked[salt]
		id := int64(mix(le.seed, salt, n) >> 1 >> (n % 3 * 4))
		if id != 0 && le.get(id) == nil {
			return id
		}
	}
}

// refresh gives a lease its full TTL from now on.
func (le *lessor) refresh(l *lease) {
	le.expireAt(l, le.sched.now()+l.duration())
}

func (le *lessor) expireAt(l *lease, at int64) {
	le.sched.cancel(l.event)
	l.event = le.sched.at(at, func() { le.expire(l.id) })
	l.expiry = l.event.at
}

// pause stops the clock of all leases; a server that is not there lets none expire.
func (le *lessor) pause() {
	for _, l := range le.leases {
		le.sched.cancel(l.event)
	}
}

// refreshAll is what a new leader, or a restarted server, does.
func (le *lessor) refreshAll() {
	for _, id := range le.ids() {
		le.refresh(le.leases[id])
	}
}

func (le *lessor) remove(l *lease) {
	le.sched.cancel(l.event)
	delete(le.leases, l.id)
}

func (le *lessor) ids() []int64 {
	ids := make([]int64, 0, len(le.leases))
	for id := range le.leases {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// status lists the leases as etcd does, the first to expire first.
func (le *lessor) status() []*pb.LeaseStatus {
	ids := le.ids()
	slices.SortStableFunc(ids, func(a, b int64) int { return cmp.Compare(le.leases[a].expiry, le.leases[b].expiry) })
	out := make([]*pb.LeaseStatus, len(ids))
	for i, id := range ids {
		out[i] = &pb.LeaseStatus{ID: id}
	}
	return out
}
