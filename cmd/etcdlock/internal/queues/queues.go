// Package queues reads from etcd who holds and who waits, for those who look on: without a
// lease and without a write.
package queues

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Kind is what a name is used for, as far as its entries tell.
type Kind string

// The kinds. Whether an entry of others is a candidate's or a lock's stands nowhere: etcd's
// own locks have no value, and candidates as a rule have one.
const (
	Lock      Kind = "lock"
	RWLock    Kind = "rwlock"
	Semaphore Kind = "semaphore"
	Election  Kind = "election"
	Unknown   Kind = "unknown" // nothing but strays
)

// Queue is who holds and waits under a name, at one revision.
type Queue struct {
	Name    string  `json:"name"`
	Kind    Kind    `json:"kind"`
	Entries []Entry `json:"entries"` // in order
}

// Entry is one holder or waiter.
type Entry struct {
	Key            string           `json:"key"`
	Holds          bool             `json:"holds"` // or is about to
	Lease          clientv3.LeaseID `json:"-"`
	LeaseHex       string           `json:"lease,omitempty"` // as etcdctl writes it; none for a stray key
	CreateRevision int64            `json:"create_revision"`
	ModRevision    int64            `json:"mod_revision"`

	Owner    string    `json:"owner,omitempty"`
	Host     string    `json:"host,omitempty"`
	PID      int       `json:"pid,omitempty"`
	Since    time.Time `json:"since,omitzero"`   // in line, by the clock of the host
	Granted  time.Time `json:"granted,omitzero"` // by the clock of the host; known of the command's holds only
	Shared   bool      `json:"shared,omitempty"`
	Permits  int       `json:"permits,omitempty"`
	Limit    int       `json:"limit,omitempty"`
	Priority int       `json:"priority,omitempty"`
	Together []string  `json:"together,omitempty"` // the names that it wants at once
	Has      []string  `json:"has,omitempty"`      // the keys that its owner holds meanwhile, as it says
	Value    string    `json:"value,omitempty"`    // a candidate's

	GrantedTTL int64 `json:"granted_ttl,omitempty"` // seconds
	TTL        int64 `json:"ttl,omitempty"`         // seconds that are left

	kind Kind
}

// Stray tells whether a key has no lease, so that it stays until somebody deletes it.
func (e *Entry) Stray() bool { return e.Lease == clientv3.NoLease }

// Holders are those who hold, in order.
func (q *Queue) Holders() []Entry { return q.those(true) }

// Waiters are those who wait, in order.
func (q *Queue) Waiters() []Entry { return q.those(false) }

func (q *Queue) those(hold bool) (some []Entry) {
	for _, e := range q.Entries {
		if e.Holds == hold {
			some = append(some, e)
		}
	}
	return some
}

// New makes a queue of the keys of a name.
func New(name string, kvs []*mvccpb.KeyValue) Queue {
	q := Queue{Name: name, Kind: Unknown, Entries: []Entry{}}
	for _, c := range queue.Contenders(name, kvs) {
		e := newEntry(c.KeyValue)
		e.Holds = len(c.Ahead) == 0
		q.Entries = append(q.Entries, e)
		q.Kind = stronger(q.Kind, e.kind)
	}
	return q
}

// stronger is the kind of a queue with entries of both: a Mutex on the name of an RWMutex is
// a writer, and who says nothing may be any of them.
func stronger(a, b Kind) Kind {
	order := []Kind{Unknown, Lock, RWLock, Election, Semaphore}
	if slices.Index(order, b) > slices.Index(order, a) {
		return b
	}
	return a
}

func newEntry(kv *mvccpb.KeyValue) Entry {
	e := Entry{
		Key: string(kv.Key), Lease: clientv3.LeaseID(kv.Lease), CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision,
		Priority: wire.Priority(string(kv.Key)),
	}
	if !e.Stray() {
		e.LeaseHex = strconv.FormatInt(kv.Lease, 16)
	}
	h, ok := wire.DecodeHolder(kv.Value)
	switch {
	case e.Stray():
		e.kind = Unknown
	case ok && h.PID > 0 && !h.Since.IsZero(): // a lock's, by this library
		e.Owner, e.Host, e.PID, e.Since, e.Has, e.Together = h.Owner, h.Host, h.PID, h.Since, h.Holds, h.All
		h = wire.Wants(kv.Value)
		e.Shared = h.Mode == wire.Shared || h.Mode == wire.Upgrading
		e.kind = Lock
		if e.Shared {
			e.kind = RWLock
		}
		if h.Mode == wire.Counted {
			e.kind, e.Permits, e.Limit = Semaphore, h.Permits, h.Limit
		}
	case len(kv.Value) == 0 && e.Priority == 0:
		e.kind = Lock // of etcd's own kind
	default:
		e.kind, e.Value = Election, string(kv.Value)
	}
	return e
}

// nameOf is the name in whose queue a key stands, if it looks like one of a queue's: a name, a
// slash and a lease in hexadecimal, and perhaps a point and a slot. alive tells which leases
// there are; nil if that is not known. Then leases have to be as long as those that etcd gives.
func nameOf(key string, alive map[clientv3.LeaseID]bool) (name string, ok bool) {
	p, ok := wire.ParseKey(key)
	if !ok || p.Lease <= clientv3.NoLease {
		return "", false
	}
	const given = 1 << 52 // at least: a member's number and the time, 14 digits
	return p.Name, alive[p.Lease] || alive == nil && p.Lease >= given
}

// used tells whether a queue has an entry that is one: under the lease that its key names.
func (q *Queue) used() bool {
	for i := range q.Entries {
		e := &q.Entries[i]
		if p, ok := wire.ParseKey(e.Key); ok && !e.Stray() && p.Name == q.Name && p.Lease == e.Lease {
			return true
		}
	}
	return false
}

// Request is somebody's wish that a holder lets go.
type Request struct {
	Owner  string    `json:"owner,omitempty"`
	Host   string    `json:"host,omitempty"`
	PID    int       `json:"pid,omitempty"`
	Since  time.Time `json:"since,omitzero"`
	Reason string    `json:"reason,omitempty"`
}

func newRequest(kv *mvccpb.KeyValue) (r Request, ok bool) {
	return r, json.Unmarshal(kv.Value, &r) == nil
}
