package local

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// The steps of a caller that holds already.

// A Go function cannot know which goroutine calls it, and a call may go on in other goroutines. The
// context of a hold therefore carries the hold. A call under this context that asks for the same
// name would wait for its own caller.

// CarriedError is the error of a call that would wait for a hold which its own context carries.
type CarriedError struct {
	Call     *Call            // nil for an upgrade
	Upgrades *mvccpb.KeyValue // the entry that was to be upgraded
	Holds    []string         // the keys of all holds that the context carries
	For      *mvccpb.KeyValue // the entry of the hold that is in the way
	Hint     string           // what the caller can do
}

func (e *CarriedError) Error() string { return lockerr.ErrDeadlock.Error() + ": " + e.Hint }

// of finds the hold of a name by a session; nil if there is none, or if it is over.
func (c *Carried) of(m *Table, name string) *Hold {
	for ; c != nil; c = c.outer {
		if l := c.hold.owned.local; l.table == m && slices.Contains(l.Names(), name) && c.hold.Err() == nil {
			return c.hold
		}
	}
	return nil
}

// elsewhere finds a hold by another session of the client that keeps w out of one of the names for as
// long as it lasts; nil if there is none. By another client it may be a hold in another etcd.
func (c *Carried) elsewhere(m *Table, w *Waiter, names []string) *Hold {
	for ; c != nil; c = c.outer {
		l := c.hold.owned.local
		if l.table != m && l.table.cfg.Client == m.cfg.Client && c.hold.Err() == nil && c.hold.owned.excludes(w) &&
			slices.ContainsFunc(names, func(name string) bool { return slices.Contains(l.Names(), name) }) {
			return c.hold
		}
	}
	return nil
}

// excludes tells whether w can never hold beside the ownership.
func (t *Ownership) excludes(w *Waiter) bool {
	t.local.table.mu.Lock()
	defer t.local.table.mu.Unlock()
	return w.Mode != t.mode() || w.Mode == wire.Exclusive
}

// Nested grants w a hold within the one that its context carries, if w asks for re-entry, or fails
// with a CarriedError. It returns false without an error if the context carries no hold of the names, so
// that w has to wait in line.
func (m *Table) Nested(w *Waiter, names ...string) (granted bool, err error) {
	var outer []*Hold
	for _, name := range names {
		if h := w.Carried.of(m, name); h != nil {
			outer = append(outer, h)
		}
	}
	other, hint, err := w.reenter(m, outer, names)
	if err != nil || w.given.owned != nil {
		return err == nil, err
	}
	if other == nil {
		if other = w.Carried.elsewhere(m, w, names); other == nil {
			return false, nil
		}
		hint = "another session of this client holds it: release it first"
	}
	deadlock := w.Carried.deadlock(other, hint)
	deadlock.Call = &w.Call
	return false, deadlock
}

// reenter decides what a call under the context of other holds of its names gets: another hold of
// their holder, ErrReentryLimit, or a hint of what to do instead, with the hold that is in the way.
// It gets nothing if none of the holds lasts any more.
func (w *Waiter) reenter(m *Table, outer []*Hold, names []string) (other *Hold, hint string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	outer = slices.DeleteFunc(outer, func(h *Hold) bool { return h.holder.holds == 0 || !h.owned.open() })
	if len(outer) == 0 {
		return nil, "", nil
	}
	h := outer[0]
	t := h.owned
	switch {
	case w.Mode == wire.Exclusive && t.mode() == wire.Shared && !w.Candidate:
		return h, "use Upgrade, or release the read lock first", nil
	case !t.covers(w, names):
		return h, "release it first", nil
	case w.Reentry < 1:
		return h, "call under the context from before that hold, or lock with WithReentry", nil
	case h.holder.holds >= w.Reentry:
		return nil, "", fmt.Errorf("%w: %d", lockerr.ErrReentryLimit, h.holder.holds)
	}
	w.get(h.holder.grant(t, t.partOf(names[0]), PathLocal))
	return nil, "", nil
}

// covers tells whether a hold of the ownership is all that w asks for. Called with Table.mu held.
func (t *Ownership) covers(w *Waiter, names []string) bool {
	if w.Candidate || slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(t.local.Names(), name) }) {
		return false
	}
	switch w.Mode {
	case wire.Counted:
		return t.mode() == wire.Counted && w.Permits <= int(t.permits)
	case wire.Shared:
		return t.mode() == wire.Shared || t.mode() == wire.Exclusive
	default:
		return t.mode() == wire.Exclusive
	}
}

// deadlock is the error of a call that would wait for a hold which its own context carries.
func (c *Carried) deadlock(h *Hold, hint string) *CarriedError {
	return &CarriedError{Holds: c.keys(), For: h.entry().KV(), Hint: hint}
}

// Besides fails if an upgrade of h would wait for another hold of the same name and client, which the
// context of the call carries.
func (c *Carried) Besides(h *Hold) error {
	for o := c; o != nil; o = o.outer {
		if of := o.hold; of.holder != h.holder && of.owned.local.table.cfg.Client == h.owned.local.table.cfg.Client &&
			slices.Contains(of.owned.local.Names(), h.owned.local.Name()) && of.Err() == nil {
			carried := c.deadlock(of, "release it first")
			carried.Upgrades = h.entry().KV()
			return carried
		}
	}
	return nil
}

// A writer becomes a reader, a reader becomes a writer, and readers are let in beside others.

// Downgraded is a writer that has become a reader in memory.
type Downgraded struct {
	Grant    Grant
	Written  chan struct{}   // to be closed when the key says so, or need not
	Detached <-chan struct{} // closed when the ownership has left its local queue; nil if it had left before
}

// Downgrade ends an exclusive hold, and grants a shared one of the same caller. write is started, and is
// to make the key shared, unless nothing begins any more.
func (m *Table) Downgrade(h *Hold, write func(d Downgraded)) (d Downgraded, err error) {
	t := h.owned
	_ = t.lease.Err() // ends it if its time is over
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case len(t.entry.Parts()) > 1:
		return d, fmt.Errorf("%w: a lock of a MultiMutex cannot be downgraded: unlock it", lockerr.ErrReentryLimit)
	case h.holder.holds > 1:
		return d, fmt.Errorf("%w: release the other holds of this turn first", lockerr.ErrReentryLimit)
	case !h.end():
		return d, h.Ended()
	}
	s := t.apart()
	s.mode, s.shared = wire.Shared, make(chan struct{}) // from here on no holder has it exclusively
	d = Downgraded{Grant: h.succeeded(PathLocal), Written: s.shared}
	d.Detached = t.becomeShared()
	if !m.gate.spawn(func() { write(d) }) {
		close(d.Written)
	}
	return d, nil
}

// becomeShared admits further readers of the session. The channel is closed when the ownership has
// left its local queue. It is nil if it had left before. Called with Table.mu held.
func (t *Ownership) becomeShared() (detached <-chan struct{}) {
	m := t.local.table
	if t != t.local.owned {
		t.asked = t.clock()
		m.beside.read(t)
		return nil
	}
	if t.state == held { // else it is lost, and the worker is finding out why
		t.become(converting)
	}
	t.detach = make(chan struct{})
	detached = t.detach
	t.leave()
	return detached
}

// succeeded is the grant of the hold that takes the place of h. Called with Table.mu held.
func (h *Hold) succeeded(by Path) Grant {
	return Grant{owned: h.owned, holder: h.holder, token: h.owned.token, part: h.part, path: by}
}

// Succeed makes a grant the hold that takes the place of h.
func (h *Hold) Succeed(g Grant) Hold { return g.Hold(h.values, h.terms) }

// StartUpgrade starts an upgrade, by run. If it cannot be started yet, because the mark of an earlier one
// is still being taken back or because the cause of a loss is not known, the channel is closed when
// that is over.
func (m *Table) StartUpgrade(h *Hold, run func(wait context.Context, u *Upgrade)) (u *Upgrade, earlier <-chan struct{}, err error) {
	t := h.owned
	_ = t.lease.Err() // ends it if its time is over
	m.mu.Lock()
	defer m.mu.Unlock()
	s := t.apart()
	switch err := m.gate.admits(); {
	case err != nil:
		return nil, nil, h.EndedOr(err)
	case !t.open(): // the key is gone, and the cause is known soon
		return nil, t.life.Context().Done(), h.Ended()
	case s.upgrading != nil && s.upgrading.over:
		return nil, s.upgrading.Done, nil
	case s.upgrading != nil:
		return nil, nil, lockerr.ErrUpgradeConflict
	}
	u = &Upgrade{Of: h, Alone: make(chan struct{}), Written: s.shared, Told: make(chan struct{}), Done: make(chan struct{})}
	var wait context.Context
	wait, u.Cancel = context.WithCancelCause(t.life.Context())
	if t.mode() != wire.Shared { // a read lock within a write lock
		u.become(PathLocal)
		return u, nil, nil
	}
	t.become(converting)
	s.upgrading = u
	u.left(int(t.holders))
	m.gate.spawn(func() {
		defer close(u.Done)
		run(wait, u)
	})
	return u, nil, nil
}

// Outcome returns the hold that takes the place of the reader's, or an error, once Told is closed.
func (u *Upgrade) Outcome() (Grant, error) { return u.given, u.err }

// GiveUp notes that the caller does not wait any more, and returns the entry that was ahead, nil if none
// is known. It returns false if the upgrade has an outcome.
func (m *Table) GiveUp(u *Upgrade) (bool, *LockedError) {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-u.Told: // it came in the same instant
		return false, nil
	default:
	}
	u.over = true
	if u.waiting == nil {
		return true, nil
	}
	return true, &LockedError{By: u.waiting.Obstacle()}
}

// Marked notes the entry with the mark.
func (m *Table) Marked(u *Upgrade, e *queue.Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	u.waiting = e
}

// Upgraded makes the reader a writer. It returns false if no caller wants the upgrade any more.
func (m *Table) Upgraded(u *Upgrade, rev int64) bool {
	t := u.Of.owned
	_ = t.lease.Err() // ends it if its time is over
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case u.over:
		return false
	case !t.open():
		return false // its watch reports the cause
	}
	was := t.token
	t.token = rev
	if !u.become(PathQueued) {
		t.token = was
		return false
	}
	t.become(held)
	t.sharing.mode, t.upgrading = wire.Exclusive, nil
	m.beside.readNoMore(t)
	return true
}

// become makes the caller's hold one for writing; false if it is over. Called with
// Table.mu held.
func (u *Upgrade) become(by Path) bool {
	if !u.Of.end() {
		u.fail(u.Of.Ended())
		return false
	}
	u.tell(u.Of.succeeded(by), nil)
	return true
}

// FailUpgrade gives the caller the reason of a failure.
func (m *Table) FailUpgrade(u *Upgrade, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	u.fail(u.Of.EndedOr(err))
}

// EndUpgrade ends an upgrade that has failed, when its mark is taken back.
func (m *Table) EndUpgrade(u *Upgrade) {
	t := u.Of.owned
	m.mu.Lock()
	defer m.mu.Unlock()
	t.upgrading = nil
	if t.state == converting {
		t.become(held)
	}
	m.gate.wake()
}

// FoundGone ends the ownership of a hold for callers, because its key was found deleted or overwritten.
// It returns false if the ownership had ended before.
func (m *Table) FoundGone(h *Hold) (first bool, d Deletion) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return h.owned.found(), h.owned.deletion()
}

// Readers are those of a session that further readers may be let in beside.
type Readers struct {
	of    *Ownership
	Entry *queue.Entry
	asked time.Duration
}

// Readers returns the readers of a name under a lease; false if there are none.
func (m *Table) Readers(name string, under *lease.Lease) (Readers, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.beside.readers[name]
	if !t.shareable() || t.lease != under {
		return Readers{}, false
	}
	return Readers{t, t.entry, m.cfg.Clock()}, true
}

// LetIn lets the readers at the front of the local queue in beside others, and further ones for another
// time slice, as no writer of another session waited. It returns false if they cannot be let in.
func (l *Queue) LetIn(r Readers) bool {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	if !r.of.shareable() {
		return false
	}
	r.of.asked = max(r.of.asked, r.asked)
	r.of.grantReaders(l)
	return true
}
