package etcdlock

import (
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Mode is how an entry of a queue wants to hold.
type Mode string

// The modes of entries. A lock of this library has its mode in its value. Of other entries it is
// known only whether they have a value, as candidates do, or none, as the locks of etcd's own
// package.
const (
	ModeExclusive Mode = "exclusive" // alone: a Mutex, a writer, one of several names
	ModeShared    Mode = "shared"    // as a reader, beside other readers
	ModeUpgrading Mode = "upgrading" // a reader that is becoming a writer, or has become one
	ModeCounted   Mode = "counted"   // Permits of Limit of a semaphore
	ModeCandidate Mode = "candidate" // to lead; Value is the proposal
	ModeForeign   Mode = "foreign"   // alone, and nothing is known of it: a lock of another library, or a key without a lease
)

// QueueEntry is one contender in a queue, as its key in etcd describes it.
type QueueEntry struct {
	Key            string
	Lease          clientv3.LeaseID // NoLease: a stray key, which stays until it is deleted by hand
	CreateRevision int64            // the order of the queue

	// Holding is true if the entry holds, or is about to be granted, because no entry is ahead of
	// it.
	Holding bool

	// Owner, Host, PID and Since are what the entry says of itself: the name of the owner, and when
	// the key was written, by the clock of Host. They are empty for entries without these fields,
	// such as candidates and the locks of etcd's own package.
	Owner string
	Host  string
	PID   int
	Since time.Time

	Mode           Mode
	Permits, Limit int // of ModeCounted

	// Priority is that of a candidate; see [WithPriority].
	Priority int

	// Holds are the keys that the owner of the entry holds meanwhile, as far as the context of its
	// call carried them.
	Holds []string

	// Traceparent is the span of the call that wrote the key, if its session has a trace with
	// [Trace.Traceparent]. Goroutines that hand over in memory and calls with [WithRetention] go on
	// with a key that an earlier call wrote.
	Traceparent string

	Value []byte // as in etcd
}

// stray reports whether the key has no lease, so that it stays until it is deleted by hand.
func (e *QueueEntry) stray() bool { return e.Lease == clientv3.NoLease }

// describe returns one line with the key and the owner and its process, or with the key and the
// proposal.
func (e *QueueEntry) describe() string {
	key := "key " + wire.Quote(e.Key)
	switch {
	case e.Mode == ModeCandidate:
		return fmt.Sprintf("%s (%s)", wire.Quote(string(e.Value)), key)
	case e.PID == 0:
		return key
	default:
		return fmt.Sprintf("%s on %s, pid %d (%s)", wire.Quote(e.Owner), wire.Quote(e.Host), e.PID, key)
	}
}

// contenderEntry converts an entry of a queue that was read as a whole.
func contenderEntry(c *queue.Contender) QueueEntry {
	return newQueueEntry(c.KeyValue, len(c.Ahead) == 0)
}

func newQueueEntry(kv *mvccpb.KeyValue, holding bool) QueueEntry {
	e := QueueEntry{
		Key:            string(kv.Key),
		Lease:          clientv3.LeaseID(kv.Lease),
		CreateRevision: kv.CreateRevision,
		Holding:        holding,
		Priority:       wire.Priority(string(kv.Key)),
		Value:          kv.Value,
	}
	h, ours := wire.ReadHolder(kv.Value)
	switch {
	case e.stray():
		e.Mode = ModeForeign
	case ours:
		e.Owner, e.Host, e.PID, e.Since, e.Holds = h.Owner, h.Host, h.PID, h.Since, h.Holds
		e.Permits, e.Limit, e.Traceparent = h.Permits, h.Limit, h.Trace
		if e.Mode = modes[h.Mode]; e.Mode == "" {
			e.Mode = ModeExclusive // an unknown mode is treated as exclusive
		}
	case len(kv.Value) == 0 && e.Priority == 0:
		e.Mode = ModeForeign
	default:
		e.Mode = ModeCandidate
	}
	return e
}

var modes = map[wire.Mode]Mode{
	wire.Exclusive: ModeExclusive, wire.Shared: ModeShared, wire.Upgrading: ModeUpgrading, wire.Counted: ModeCounted,
}

// ReleaseRequest asks the holder of a name to release it; see [Session.Ask] and [Lock.Asked].
type ReleaseRequest struct {
	Name   string // of the lock, the semaphore or the election
	Reason string

	// The session that asks, as it describes itself.
	Owner string
	Host  string
	PID   int
	Since time.Time // by the clock of Host

	// Candidate is to lead an election next; see [Election.AskToTransfer]. It is empty in any other
	// request.
	Candidate string
}

// by describes the session that asks, and its reason.
func (r *ReleaseRequest) by() string {
	text := fmt.Sprintf("by %s (%s, pid %d)", wire.Quote(r.Owner), wire.Quote(r.Host), r.PID)
	if r.Reason != "" {
		text += ": " + wire.Quote(r.Reason)
	}
	return text
}
