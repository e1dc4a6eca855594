package local

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/etcdlock/etcdlock/internal/lazyctx"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/lockorder"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Request is what a call asks of the queue of a name.
type Request struct {
	Identity string // kind and owner, or kind and proposal; a request with the same one can use the key as it is
	Terms    Terms
	MaxHold  time.Duration // for how long the caller may hold; 0: without a bound
	Reentry  int           // the most holds of one caller; below 1: no re-entry

	Mode    wire.Mode
	Permits int           // of wire.Counted
	Want    *wire.Holder  // what the value of the key says of the mode; nil: exclusive
	Value   func() string // makes the value of the key; nil: Restate of Want

	Owner string
	Host  string
	PID   int
	Short wire.Identity // the value of a key of Owner, Host and PID that wants nothing else; "" if there is none

	Rule      *queue.Rule // of a mode that can be held beside others; nil: exclusive
	Candidate bool        // of an election
	Rank      wire.Slot   // of a candidate: its priority

	Cycle *string // the prefix under which a cycle of waits is looked for; nil: it is not
}

// Call is one call with a request.
type Call struct {
	*Request
	Try     bool     // only if no other entry holds or waits
	Carried *Carried // the holds that the context of the call carries, see CarriedBy
	Trace   string   // the traceparent of the call, for the value of the key; "" if there is none
	Waiting *Waiting // told when the request has to wait; nil: nothing is
}

// Terms bound for how long a session may keep to itself what it holds.
type Terms struct {
	Slice     time.Duration // how long goroutines of the session hand over in memory
	Retention time.Duration // how long the key is kept while no goroutine holds
}

// MakeValue is what is written to the key.
func (c *Call) MakeValue() string {
	switch {
	case c.Value != nil:
		return c.Value()
	case c.plain():
		return c.Short.Since(time.Now().UTC(), c.Trace)
	case c.Want == nil:
		return c.Restate(wire.Holder{})
	default:
		return c.Restate(*c.Want)
	}
}

// Restate is the value of the key when it is to say something else of the mode.
func (c *Call) Restate(want wire.Holder) string {
	return restate(want, wire.Holder{Owner: c.Owner, Host: c.Host, PID: c.PID, Trace: c.Trace}, c.Carried)
}

// restate is the value of a key of a caller that holds others, from now on.
func restate(want, by wire.Holder, carried *Carried) string {
	want.Owner, want.Host, want.PID, want.Since = by.Owner, by.Host, by.PID, time.Now().UTC()
	want.Holds, want.Trace = carried.keys(), by.Trace
	return want.Encode()
}

// inherits tells whether r can take the place of another request of its local queue. An entry
// that is held beside others must not become an exclusive one, as others may be admitted already.
// The number of permits decides about other entries too.
func (r *Request) inherits(of *Request) bool {
	return r.Mode == of.Mode && r.Rank == of.Rank && (r.Mode != wire.Counted || r.Identity == of.Identity)
}

// plain tells whether the value says no more than whose key it is, as nearly always.
func (c *Call) plain() bool {
	return c.Value == nil && c.Want == nil && c.Carried == nil && c.Short != ""
}

// Wants is what is entered with for a waiter. Its driver calls it.
func (w *Waiter) Wants(ls *lease.Lease, slot wire.Slot) queue.Want {
	want := queue.Want{Lease: ls.ID(), Slot: slot, Rule: w.Rule, Candidate: w.Candidate, Keeps: w.Terms.Retention > 0}
	if w.made = 0; w.plain() && w.Trace == "" {
		now := time.Now()
		w.made, want.Value = now.UnixNano(), w.Short.Since(now.UTC(), "")
	} else {
		want.Value = w.MakeValue()
	}
	return want
}

// Entered takes in the entry that was made by Wants. Its driver calls it.
func (w *Waiter) Entered(e *queue.Entry) {
	if e != nil && w.made != 0 {
		e.MadeOf(w.Short, w.made)
	}
}

// Waiter is a caller in a local queue.
type Waiter struct {
	Call
	Hurries bool // true: the caller may not wait for as long as a request may take

	made  int64         // the time in the value of Wants; 0 if the value has more than that; of the driver
	given Grant         // the outcome: a hold, or an error
	err   error         // set before told; guarded by Table.mu
	told  lazyctx.Latch // set with the outcome; guarded by Table.mu
	under *lease.Lease  // the lease when the caller came, or that of its entry; nil if there was none

	// Guarded by Table.mu.
	waits      bool // false after an outcome, or after the caller gave up
	prev, next *Waiter
}

// get notes that the outcome is a hold. Called with Table.mu held.
func (w *Waiter) get(g Grant) { w.given = g }

// waiters are the waiters of a local queue. Table.mu guards them.
type waiters struct {
	first, last *Waiter
	count       int
}

// add adds a waiter at the end.
func (s *waiters) add(w *Waiter) {
	if w.prev = s.last; w.prev != nil {
		w.prev.next = w
	} else {
		s.first = w
	}
	s.last, w.waits = w, true
	s.count++
}

// remove removes a waiter. Its next one stays, for a walk that has removed it.
func (s *waiters) remove(w *Waiter) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		s.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		s.last = w.prev
	}
	w.waits = false
	s.count--
}

// Outcome is what w was granted, or why it was not, once its channel is closed or its caller has given
// up.
func (w *Waiter) Outcome() (Grant, error) {
	if w.given.owned == nil && w.err == nil {
		return Grant{}, ErrUnwanted
	}
	return w.given, w.err
}

// Carried is a hold that a context carries, and those around it.
type Carried struct {
	hold  *Hold
	outer *Carried
}

type carryKey struct{}

// CarriedBy returns the innermost hold that a context carries; nil if it carries none.
func CarriedBy(ctx context.Context) *Carried {
	c, _ := ctx.Value(carryKey{}).(*Carried)
	return c
}

// Hold returns the hold; nil if there is none.
func (c *Carried) Hold() *Hold {
	if c == nil {
		return nil
	}
	return c.hold
}

// Carry returns a context that carries holds.
func Carry(ctx context.Context, c *Carried) context.Context {
	return context.WithValue(ctx, carryKey{}, c)
}

// keys are those by which everything is held that a context carries.
func (c *Carried) keys() []string {
	var keys []string
	for ; c != nil; c = c.outer {
		if c.hold.Err() != nil {
			continue
		}
		for _, e := range c.hold.owned.entry.Parts() {
			if !slices.Contains(keys, e.Key) {
				keys = append(keys, e.Key)
			}
		}
	}
	return keys
}

// holders are those of the holds that a context carries.
func (c *Carried) holders() (all []*holder) {
	for ; c != nil; c = c.outer {
		all = append(all, c.hold.holder)
	}
	return all
}

// Grant is a hold as it was granted. Grant.Hold makes it that of a caller.
type Grant struct {
	owned  *Ownership
	holder *holder
	token  int64
	part   int32 // which part of the entry; whole for all of it
	path   Path
}

// whole is the part of a hold by all keys of its ownership.
const whole = -1

// entry is that of the name that it is a hold of, or that of several names.
func (g *Grant) entry() *queue.Entry {
	if g.part == whole {
		return g.owned.entry
	}
	return g.owned.entry.Parts()[g.part]
}

// grant grants another hold of the holder. Called with Table.mu held.
func (u *holder) grant(t *Ownership, part int, by Path) Grant {
	u.holds++
	t.local.table.counts.granted(by)
	return Grant{owned: t, holder: u, token: t.token, part: int32(part), path: by}
}

// Hold makes the hold that of a caller.
func (g Grant) Hold(values context.Context, terms Terms) Hold {
	return Hold{Grant: g, values: values, terms: terms}
}

// Hold is one acquisition, from its grant to its end. The root documents its methods at the handles
// of the API.
type Hold struct {
	Grant
	values context.Context // that of the caller; only its values are used
	terms  Terms
	limit  *limit // nil for none

	mu  lockorder.Hold
	err error        // why it is over, once that is known
	ctx *holdContext // nil until first use; a part of the ownership's
}

// holdContext ends with the hold, and has the values of the caller's context too.
type holdContext struct {
	*lazyctx.Part
	hold   *Hold
	values context.Context
	asked  atomic.Value // see Hold.Asked
}

func (c *holdContext) Value(key any) any {
	switch key {
	case waitKey{c.hold}:
		return context.Background()
	case carryKey{}:
		return &Carried{hold: c.hold, outer: CarriedBy(c.values)}
	}
	if v := c.Part.Value(key); v != nil {
		return v
	}
	return c.values.Value(key)
}

// waitKey finds, in a context that ends with a hold, the context that a release of this hold waits
// under. The release ends the hold, and must not be cut short by that.
type waitKey struct{ hold *Hold }

// Context returns a context that ends with the hold, with the cause that Err returns. It carries the
// hold, and the values of the caller's context.
func (h *Hold) Context() context.Context {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx == nil {
		life := &h.owned.life
		if h.err != nil {
			life = lazyctx.New(context.WithoutCancel(h.owned.lease.Context())) // life may have ended since, for another cause
			life.Cancel(h.err)
		}
		h.ctx = &holdContext{Part: life.Part(), hold: h, values: h.values}
	}
	return h.ctx
}

// Asked is for the channel of requests to release the hold, which goes with its context.
func (h *Hold) Asked() *atomic.Value {
	_ = h.Context()
	return &h.ctx.asked
}

// Err returns nil while held. It looks at the clock itself.
func (h *Hold) Err() error {
	_ = h.owned.lease.Err() // ends the lease, and so the hold, if its time is over
	return h.Ended()
}

// Ended is Err without the look at the clock.
func (h *Hold) Ended() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		h.err = h.owned.life.Cause()
	}
	return h.err
}

// Token returns the fencing token.
func (h *Hold) Token() int64 { return h.token }

// Path returns how the hold was acquired.
func (h *Hold) Path() Path { return h.path }

// Entry returns the entry in etcd by which the name is held, or that of several names.
func (h *Hold) Entry() *queue.Entry { return h.entry() }

// EntryOf returns the entry of one of the names that are held.
func (h *Hold) EntryOf(name string) *queue.Entry { return h.owned.entry.Parts()[h.owned.partOf(name)] }

// Lease returns the lease of the hold.
func (h *Hold) Lease() *lease.Lease { return h.owned.lease }

// Remaining returns the time until the hold ends unless its lease is renewed before. After its end
// it is negative: how long ago that was.
func (h *Hold) Remaining() time.Duration { return h.owned.remaining() }

// Now is the time by the session's clock, or when the hold was lost if that was before.
func (h *Hold) Now() time.Duration {
	return h.owned.clock() + min(h.Remaining(), 0)
}

// Name returns the name that is held, or the first of several.
func (h *Hold) Name() string {
	return h.owned.local.Names()[max(h.part, 0)]
}

// OwnershipContext returns a context that ends with all holds by the same key.
func (h *Hold) OwnershipContext() context.Context { return h.owned.life.Context() }

// Restate returns the value of the key when it is to say something else of the mode.
func (h *Hold) Restate(want wire.Holder) string {
	by, _ := wire.DecodeHolder(h.entry().KV().Value)
	return restate(want, by, h.owned.carried)
}

// ReleaseContext returns a context that a release of the hold waits under. The release ends the hold,
// and must not be cut short by that.
func (h *Hold) ReleaseContext(ctx context.Context) (context.Context, context.CancelFunc) {
	wait, ok := ctx.Value(waitKey{h}).(context.Context)
	if !ok || ctx.Err() != nil {
		return ctx, func() {}
	}
	if deadline, ok := ctx.Deadline(); ok {
		return context.WithDeadline(wait, deadline)
	}
	return wait, func() {}
}

// end ends the hold because its caller releases it. The results are those of endBy. It may be called with
// Table.mu held.
func (h *Hold) end() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.limit.stop()
	return h.endBy(lockerr.ErrReleased)
}

// EndedOr is why the hold has ended, or another error while it lasts.
func (h *Hold) EndedOr(err error) error {
	if ended := h.Ended(); ended != nil {
		return ended
	}
	return err
}

// Within returns a context that ends with ctx or with the hold, and carries the hold.
func (h *Hold) Within(ctx context.Context) (context.Context, context.CancelFunc) {
	carry := Carry(ctx, &Carried{hold: h, outer: CarriedBy(ctx)})
	ctx, cancel := context.WithCancelCause(context.WithValue(carry, waitKey{h}, ctx))
	own := h.Context()
	stop := context.AfterFunc(own, func() { cancel(context.Cause(own)) })
	return ctx, func() {
		stop()
		cancel(context.Canceled)
	}
}
