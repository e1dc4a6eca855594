package lockmgr

import (
	"container/list"
	"context"
	"time"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/lazyctx"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Request is what a call asks of the queue of a name.
type Request struct {
	Identity string // kind and owner, or kind and proposal; a request with the same one can use the key as it is
	Try      bool   // only if no other entry holds or waits
	Terms    Terms

	Mode    wire.Mode
	Permits int           // of wire.Counted
	Want    *wire.Holder  // what the value of the key says of the mode; nil: exclusive
	Value   func() string // makes the value of the key; nil: Restate of Want

	Owner   string
	Host    string
	PID     int
	Short   wire.Identity // the value of a key of Owner, Host and PID that wants nothing else; "" if there is none
	Carried *Carried      // the holds that the context of the call carries, see CarriedBy

	Rule      *queue.Rule // of a mode that can be held beside others; nil: exclusive
	Candidate bool        // of an election
	Rank      wire.Slot   // of a candidate: its priority

	Cycle *string // the prefix under which a cycle of waits is looked for; nil: it is not

	Trace   string   // the traceparent of the call, for the value of the key; "" if there is none
	Waiting *Waiting // told when the request has to wait; nil: nothing is
}

// Terms bound for how long a session may keep to itself what it holds.
type Terms struct {
	Slice     time.Duration // how long goroutines of the session hand over in memory
	Retention time.Duration // how long the key is kept while no goroutine holds
	Reentry   int           // the most holds of one caller; below 1: no re-entry
}

// value is what is written to the key.
func (r *Request) value() string {
	switch {
	case r.Value != nil:
		return r.Value()
	case r.Want == nil && r.Carried == nil && r.Short != "":
		return r.Short.Since(time.Now().UTC(), r.Trace) // as nearly always
	case r.Want == nil:
		return r.Restate(wire.Holder{})
	default:
		return r.Restate(*r.Want)
	}
}

// Restate is the value of the key when it is to say something else of the mode.
func (r *Request) Restate(want wire.Holder) string { return r.bearer().restate(want) }

// bearer is what a value says of the caller. An ownership keeps it, and not the whole request.
type bearer struct {
	owner, host string
	pid         int
	carried     *Carried
	trace       string
}

func (r *Request) bearer() *bearer { return &bearer{r.Owner, r.Host, r.PID, r.Carried, r.Trace} }

func (b *bearer) restate(want wire.Holder) string {
	want.Owner, want.Host, want.PID, want.Since = b.owner, b.host, b.pid, time.Now().UTC()
	want.Holds, want.Trace = b.carried.keys(), b.trace
	return want.Encode()
}

// inherits tells whether r can take the place of another request of its local queue. An entry
// that is held beside others must not become an exclusive one, as others may be admitted already.
// The number of permits decides about other entries too.
func (r *Request) inherits(of *Request) bool {
	return r.Mode == of.Mode && r.Rank == of.Rank && (r.Mode != wire.Counted || r.Identity == of.Identity)
}

// wants is what is entered with for a request.
func (r *Request) wants(ls *lease.Lease, slot wire.Slot) queue.Want {
	return queue.Want{Lease: ls.ID(), Slot: slot, Value: r.value(), Rule: r.Rule, Candidate: r.Candidate, Keeps: r.Terms.Retention > 0}
}

// waiter is a caller in a local queue.
type waiter struct {
	Request
	values context.Context // that of the caller; only its values are used
	given  outcome         // set before told; guarded by Manager.mu
	told   lazyctx.Latch   // set with the outcome; guarded by Manager.mu
	under  *lease.Lease    // the lease when the caller came, or that of its entry; nil if there was none
	place  *list.Element   // nil after an outcome, or after the caller gave up; guarded by Manager.mu
}

type outcome struct {
	hold *Hold
	err  error
}

// hurries tells whether the caller will not wait for as long as a request may take. When its time
// is up it can only return early if it cuts off its own request. If another goroutine makes the
// request, that goroutine stays behind to hear the answer.
func (w *waiter) hurries() bool {
	deadline, ok := w.values.Deadline()
	return ok && time.Until(deadline) <= etcdkv.FirstBound
}
