// Package queues reads holders and waiters from etcd, without a lease and without a write.
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

// Kind is the primitive for which a name is used, as far as its entries show.
type Kind string

// The kinds. An entry of another library does not say whether it is a candidate or a lock. etcd's own
// locks have no value, and candidates usually have one.
const (
	Lock      Kind = "lock"
	RWLock    Kind = "rwlock"
	Semaphore Kind = "semaphore"
	Election  Kind = "election"
	Unknown   Kind = "unknown" // only keys without a lease
)

// Queue has the holders and waiters of a name, at one revision.
type Queue struct {
	Name    string  `json:"name"`
	Kind    Kind    `json:"kind"`
	Entries []Entry `json:"entries"` // in order
}

// Entry is one holder or waiter.
type Entry struct {
	Key            string           `json:"key"`
	Holds          bool             `json:"holds"` // true if no entry is ahead
	Lease          clientv3.LeaseID `json:"-"`
	LeaseHex       string           `json:"lease,omitempty"` // as etcdctl prints it; empty for a stray key
	CreateRevision int64            `json:"create_revision"`
	ModRevision    int64            `json:"mod_revision"`

	Owner    string    `json:"owner,omitempty"`
	Host     string    `json:"host,omitempty"`
	PID      int       `json:"pid,omitempty"`
	Since    time.Time `json:"since,omitzero"`   // when it entered the queue, by the clock of the host
	Granted  time.Time `json:"granted,omitzero"` // by the clock of the host; known only for holds of the command
	Shared   bool      `json:"shared,omitempty"`
	Permits  int       `json:"permits,omitempty"`
	Limit    int       `json:"limit,omitempty"`
	Priority int       `json:"priority,omitempty"`
	Together []string  `json:"together,omitempty"` // the names that it requests at once
	Has      []string  `json:"has,omitempty"`      // the keys that its owner holds while it waits
	Value    string    `json:"value,omitempty"`    // the proposal of a candidate
	Paused   bool      `json:"paused,omitempty"`   // true for the entry of a pause, by which no process leads

	GrantedTTL int64 `json:"granted_ttl,omitempty"` // in seconds
	TTL        int64 `json:"ttl,omitempty"`         // the rest, in seconds

	kind Kind
}

// Stray reports whether a key has no lease, so that it exists until a client deletes it.
func (e *Entry) Stray() bool { return e.Lease == clientv3.NoLease }

// Holders returns the entries that hold, in order.
func (q *Queue) Holders() []Entry { return q.those(true) }

// Waiters returns the entries that wait, in order.
func (q *Queue) Waiters() []Entry { return q.those(false) }

func (q *Queue) those(hold bool) (some []Entry) {
	for _, e := range q.Entries {
		if e.Holds == hold && !e.Paused {
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
		e.Holds = len(c.Ahead) == 0 && !e.Paused
		q.Entries = append(q.Entries, e)
		q.Kind = stronger(q.Kind, e.kind)
	}
	return q
}

// stronger is the kind of a queue with entries of both kinds. A Mutex on the name of an RWMutex is a
// writer, and an entry of kind Unknown may be of any kind.
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
		Priority: wire.Priority(string(kv.Key)), Paused: wire.Pauses(string(kv.Key)),
	}
	if !e.Stray() {
		e.LeaseHex = strconv.FormatInt(kv.Lease, 16)
	}
	h, ok := wire.DecodeHolder(kv.Value)
	switch {
	case e.Stray():
		e.kind = Unknown
	case ok && h.PID > 0 && !h.Since.IsZero(): // a lock of this library
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
		e.kind = Lock // of etcd's own library
	default:
		e.kind, e.Value = Election, string(kv.Value)
	}
	return e
}

// nameOf is the name of the queue of a key in the form of a queue entry. This form is a name, a slash
// and a lease in hexadecimal, perhaps with a dot and a slot. alive has all leases, or is nil if they are not
// known. A lease must then be as long as the IDs that etcd assigns.
func nameOf(key string, alive map[clientv3.LeaseID]bool) (name string, ok bool) {
	p, ok := wire.ParseKey(key)
	if !ok || p.Lease <= clientv3.NoLease {
		return "", false
	}
	const assigned = 1 << 52 // the minimum, which has 14 digits: an ID has the number of a member and the time
	return p.Name, alive[p.Lease] || alive == nil && p.Lease >= assigned
}

// Used reports whether a queue has an entry under the lease in its key.
func (q *Queue) Used() bool {
	for i := range q.Entries {
		e := &q.Entries[i]
		if p, ok := wire.ParseKey(e.Key); ok && !e.Stray() && p.Name == q.Name && p.Lease == e.Lease {
			return true
		}
	}
	return false
}

// Request asks the holders of a name to release it.
type Request struct {
	Owner  string    `json:"owner,omitempty"`
	Host   string    `json:"host,omitempty"`
	PID    int       `json:"pid,omitempty"`
	Since  time.Time `json:"since,omitzero"`
	Reason string    `json:"reason,omitempty"`
	To     string    `json:"to,omitempty"` // the candidate that is to lead next
}

// NewRequest reads a request. ok is false for a value in another format.
func NewRequest(kv *mvccpb.KeyValue) (r Request, ok bool) {
	ok = json.Unmarshal(kv.Value, &r) == nil
	r.To = wire.FromText(r.To)
	return r, ok
}
