package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/wire"
)

const (
	fleetWorkers = 3 // goroutines of one process that lock
	fleetLimit   = 3 // permits of the semaphore
	foreignName  = "f/"
)

// fleetNames are the names that the fleet locks; those with other rules stand beside.
var (
	fleetNames  = []string{"m", "rw", "sem", "set/a", "set/b", "set/c", "dead/x", "dead/y", "str/0", "str/1", foreignName, "e"}
	fleetStripe = 2
)

// A locksmith is one goroutine of a process. It uses every primitive and every call of it.
type locksmith struct {
	*process
	r   *rand.Rand
	who string
}

func (w *locksmith) sleep(most time.Duration) bool {
	select {
	case <-time.After(1 + time.Duration(w.r.Int64N(int64(most)))):
		return true
	case <-w.life.Done():
		return false
	}
}

func (w *locksmith) work() {
	for w.sleep(time.Second) {
		if w.calming.Load() {
			continue
		}
		w.round()
	}
}

// round is one use of one primitive.
func (w *locksmith) round() {
	ctx, cancel := context.WithTimeout(w.life, 50*time.Millisecond+time.Duration(w.r.Int64N(int64(8*time.Second))))
	defer cancel()
	switch w.r.IntN(11) {
	case 0, 1, 2:
		w.mutex(ctx, "m")
	case 3:
		w.readWrite(ctx)
	case 4:
		w.permits(ctx)
	case 5:
		w.several(ctx)
	case 6, 7:
		w.crosswise(ctx)
	case 8:
		striped := NewStriped(w.session, "str", fleetStripe, w.options()...)
		key := fmt.Sprint("key-", w.r.IntN(9))
		w.op("NewStriped", "Striped.Len", "Striped.For")
		w.exclusive(ctx, striped.For(key))
		if striped.Len() != fleetStripe {
			w.violation(order, "Len is %d", striped.Len())
		}
	case 9:
		w.foreign(ctx)
	default:
		w.locker()
	}
}

// options are those of the row for a lock.
func (w *locksmith) options() (opts []MutexOption) {
	for _, v := range w.row.chosen("lock") {
		opts = append(opts, v.lock())
	}
	return opts
}

// lockOptions are those of the row that each kind of lock takes.
func (w *locksmith) lockOptions() (opts []LockOption) {
	for _, o := range w.options() {
		if o, ok := o.(LockOption); ok {
			opts = append(opts, o)
		}
	}
	return opts
}

// owner is what the keys of the process's locks have to say.
func (w *locksmith) owner(lock bool) string {
	if o := w.row.text("lock.WithOwner"); lock && o != "" {
		return o
	}
	return w.row.text("session.WithOwner")
}

// held takes note of a hold, and of what options had to do with it.
func (w *locksmith) held(name string, mode wire.Mode, permits int, h hold, lockOptions bool) *fleetHold {
	held := w.grant(w.process, name, w.who, mode, permits, h)
	w.observe(h, name, lockOptions)
	if h.Name() != name {
		w.violation(order, "a hold of %s has the name %s", name, h.Name())
	}
	w.op("Lock.Name", "Lock.Key", "Lock.Token", "Lock.CreateRevision", "Lock.Deadline", "Lock.Err")
	return held
}

// observe looks at a hold from outside.
func (w *locksmith) observe(h hold, name string, lockOptions bool) {
	kv := w.Get(h.Key())
	if kv == nil || h.Err() != nil {
		return
	}
	if lease := clientv3.LeaseID(kv.Lease); !h.Deadline().IsZero() {
		left := w.LeaseExpiry(lease).Sub(h.Deadline())
		if delay := w.row.duration("session.WithLockDelay"); left >= delay {
			w.effect("session.WithLockDelay")
			if left >= delay+w.row.duration("session.WithMargin") {
				w.effect("session.WithMargin")
			}
		}
	}
	value, ok := wire.DecodeHolder(kv.Value)
	if owner := w.owner(lockOptions); ok && owner != "" && value.Owner == owner && lockOptions && w.row.has("lock.WithOwner") {
		w.effect("lock.WithOwner")
	} else if ok && owner != "" && value.Owner == owner {
		w.effect("session.WithOwner")
	}
	w.mu.Lock()
	strict := w.turns[name] > 0
	w.turns[name] = 0
	w.mu.Unlock()
	if strict && w.row.value("lock.WithTimeSlice") == time.Duration(0) {
		w.effect("lock.WithTimeSlice")
	}
}

func (w *locksmith) wait(name string, by int) (others int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting[name] += by
	return w.waiting[name]
}

// mutex locks and unlocks, in one of the ways that there are.
func (w *locksmith) mutex(ctx context.Context, name string) {
	m := NewMutex(w.session, name, w.options()...)
	w.op("NewMutex", "Mutex.Name")
	if m.Name() != name {
		w.violation(order, "the name is %q", m.Name())
	}
	switch w.r.IntN(6) {
	case 0:
		l, err := m.TryLock(ctx)
		if err != nil {
			w.refused(name, err)
			return
		}
		w.op("Mutex.TryLock")
		w.unlock(ctx, l, w.held(name, wire.Exclusive, 0, l.hold, true))
	case 1:
		w.wait(name, 1)
		entered := false
		err := m.Do(ctx, func(ctx context.Context, l *Lock) error {
			w.wait(name, -1)
			entered = true
			held := w.held(name, wire.Exclusive, 0, l.hold, true)
			defer w.releasing(held)
			w.op("Mutex.Do")
			w.stay(ctx, l.hold)
			return nil
		})
		if !entered {
			w.wait(name, -1)
			w.refused(name, err)
		}
	default:
		w.exclusive(ctx, m)
	}
}

// exclusive is Lock, with Locks of the same name under its context now and then.
func (w *locksmith) exclusive(ctx context.Context, m *Mutex) {
	name := m.Name()
	w.wait(name, 1)
	l, err := m.Lock(ctx)
	w.wait(name, -1)
	if err != nil {
		w.refused(name, err)
		return
	}
	w.op("Mutex.Lock")
	held := w.held(name, wire.Exclusive, 0, l.hold, true)
	if w.r.IntN(2) == 0 {
		w.reenter(l.Context(), m, 1)
	}
	w.unlock(ctx, l, held)
}

// reenter locks again under the context of a hold of the same name.
func (w *locksmith) reenter(ctx context.Context, m *Mutex, holds int) {
	if h, ok := HoldOf(ctx); !ok || h.Done() != ctx.Done() {
		w.violation(order, "the context of a hold of %s does not carry it", w.who)
	}
	w.op("Lock.Context", "HoldOf")
	l, err := m.Lock(ctx)
	limit := w.row.number("lock.WithReentry")
	switch {
	case errors.Is(err, ErrDeadlock):
		if limit > 0 {
			w.violation(order, "%s may have %d holds of a turn, and %v", w.who, limit, err)
		}
	case errors.Is(err, ErrReentryLimit):
		if holds < limit {
			w.violation(order, "%s has %d holds of a turn, and %v", w.who, holds, err)
		}
		w.effect("lock.WithReentry")
	case err == nil:
		if holds >= limit {
			w.violation(order, "%s has %d holds of a turn of %d", w.who, holds+1, limit)
		}
		if holds < 3 {
			w.reenter(l.Context(), m, holds+1)
		}
		_ = l.Unlock(w.life)
	}
}

// stay holds for a while, or until the hold is over, or until it is asked for.
func (w *locksmith) stay(ctx context.Context, h hold) {
	var asked <-chan ReleaseRequest
	if w.r.IntN(3) == 0 {
		asked = h.Asked()
		w.op("Lock.Asked")
	}
	for {
		select {
		case r, ok := <-asked:
			if asked = nil; ok && r.Reason != fleetReason {
				w.violation(order, "%s is asked for the reason %q", w.who, r.Reason)
			}
			if ok {
				w.op("Request.Reason")
			}
			continue
		case <-h.Done():
		case <-ctx.Done():
		case <-time.After(time.Duration(w.r.Int64N(int64(600 * time.Millisecond)))):
		}
		w.op("Lock.Done")
		w.overstay(ctx, h)
		return
	}
}

// overstay holds on, now and then, after WithMaxHold has ended a hold.
func (w *locksmith) overstay(ctx context.Context, h hold) {
	if !errors.Is(h.Err(), ErrHeldTooLong) {
		return
	}
	w.effect("lock.WithMaxHold")
	if w.r.IntN(2) == 0 {
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(w.r.Int64N(int64(4 * time.Second)))):
		}
	}
}

// unlock holds a lock for a while, and unlocks it.
func (w *locksmith) unlock(ctx context.Context, l *Lock, held *fleetHold) {
	w.stay(ctx, l.hold)
	name := held.name
	others := w.wait(name, 0)
	if h := l.hold; w.guarded(h) {
		w.op("Lock.Guard")
	}
	w.releasing(held)
	bounded, cancel := context.WithTimeout(w.life, time.Duration(1+w.r.Int64N(int64(5*time.Second))))
	defer cancel()
	err := l.Unlock(bounded)
	w.released(name, err)
	if err != nil {
		return
	}
	w.op("Lock.Unlock")
	if others > 0 {
		w.mu.Lock()
		w.turns[name]++
		w.mu.Unlock()
	} else if kv := w.Get(l.Key()); kv != nil && kv.CreateRevision == l.CreateRevision() && w.wait(name, 0) == 0 {
		w.effect("lock.WithRetention") // it is kept
	}
}

// guarded writes to etcd under the guard of a hold, now and then.
func (w *locksmith) guarded(h hold) bool {
	if w.r.IntN(6) != 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(w.life, time.Second)
	defer cancel()
	resp, err := w.client.Txn(ctx).If(h.Guard()).Then(clientv3.OpGet(h.Key())).Commit()
	return err == nil && resp.Succeeded
}

// refused takes note of why a lock was not had.
func (w *locksmith) refused(name string, err error) {
	w.note("%s does not get %s: %v", w.who, name, err)
	w.expected("locking "+name, err)
}

// released takes note of how a release went.
func (w *locksmith) released(name string, err error) {
	w.note("%s has released %s: %v", w.who, name, err)
	w.expected("releasing "+name, err)
}

// documented is the promise that an error is one of those that the documentation names.
const documented = "errors are documented"

// expected are the errors that the documentation names; every other one is a finding.
func (p *process) expected(what string, err error) {
	for _, known := range []error{
		nil, context.Canceled, context.DeadlineExceeded, ErrLocked, ErrLost, ErrReleased, ErrSessionClosed, ErrDeadlock,
		ErrUpgradeConflict, ErrReentryLimit, ErrLimitMismatch, ErrNoCandidate, ErrNoLeader, ErrNotHonoured,
	} {
		if err == nil || known != nil && errors.Is(err, known) {
			return
		}
	}
	if isUnavailable(err) || p.dead() {
		return
	}
	p.violation(documented, "%s: %s: %v", p.id, what, err)
}

// crosswise locks two names, the second one under the first one's context. Others do it the other way round.
func (w *locksmith) crosswise(ctx context.Context) {
	names := []string{"dead/x", "dead/y"}
	if w.r.IntN(2) == 0 {
		names[0], names[1] = names[1], names[0]
	}
	bare := w.r.IntN(2) == 0 // by the session's detection alone
	lock := func(ctx context.Context, name string) (*Lock, *fleetHold) {
		opts := w.options()
		if bare {
			opts = nil
		}
		l, err := NewMutex(w.session, name, opts...).Lock(ctx)
		if errors.Is(err, ErrDeadlock) {
			w.op("ErrDeadlock")
		}
		if err != nil {
			w.refused(name, err)
			return nil, nil
		}
		return l, w.held(name, wire.Exclusive, 0, l.hold, !bare)
	}
	first, one := lock(ctx, names[0])
	if first == nil {
		return
	}
	w.stay(ctx, first.hold)
	under, cancel := context.WithTimeout(first.Context(), 3*time.Second)
	second, two := lock(under, names[1])
	cancel()
	if second != nil {
		w.unlock(ctx, second, two)
	}
	w.unlock(ctx, first, one)
}

// foreign locks a name that only a session with WithForeignNames may lock.
func (w *locksmith) foreign(ctx context.Context) {
	m := NewMutex(w.session, foreignName, w.options()...)
	l, err := m.Lock(ctx)
	allowed := w.row.has("session.WithForeignNames")
	if errors.Is(err, ErrInvalidName) == allowed && (allowed || ctx.Err() == nil && w.session.Err() == nil) {
		w.violation(order, "%s locks %q: %v", w.who, foreignName, err)
	}
	if err != nil {
		if allowed {
			w.refused(foreignName, err)
		}
		return
	}
	w.effect("session.WithForeignNames")
	w.unlock(ctx, l, w.held(foreignName, wire.Exclusive, 0, l.hold, true))
}

// locker locks by sync.Locker, which waits for as long as it takes and panics when the session ends.
func (w *locksmith) locker() {
	defer func() {
		if err, ok := recover().(error); ok && !errors.Is(err, ErrSessionClosed) {
			panic(err)
		}
	}()
	l := NewMutex(w.session, "m", w.options()...).Locker()
	w.wait("m", 1)
	func() {
		defer w.wait("m", -1)
		l.Lock()
	}()
	w.op("Mutex.Locker")
	h := l.(*locker).held
	held := w.held("m", wire.Exclusive, 0, h.hold, true)
	w.stay(w.life, h.hold)
	w.releasing(held)
	l.Unlock()
}
