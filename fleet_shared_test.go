package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// readWrite uses a RWMutex, in all ways.
func (w *locksmith) readWrite(ctx context.Context) {
	m := NewRWMutex(w.session, "rw", w.options()...)
	w.op("NewRWMutex", "RWMutex.Name")
	if m.Name() != "rw" {
		w.violation(order, "the name is %q", m.Name())
	}
	write := func(op string) func(*WriteLock, error) {
		return func(l *WriteLock, err error) {
			if err != nil {
				w.refused("rw", err)
				return
			}
			w.op(op)
			w.writes(ctx, l, w.held("rw", wire.Exclusive, 0, l.hold, true))
		}
	}
	read := func(op string) func(*ReadLock, error) {
		return func(l *ReadLock, err error) {
			if err != nil {
				w.refused("rw", err)
				return
			}
			w.op(op)
			w.reads(ctx, l, w.held("rw", wire.Shared, 0, l.hold, true))
		}
	}
	var err error
	switch w.r.IntN(7) {
	case 0:
		write("RWMutex.TryLock")(m.TryLock(ctx))
	case 1:
		read("RWMutex.TryRLock")(m.TryRLock(ctx))
	case 2:
		write("RWMutex.Lock")(m.Lock(ctx))
	case 3:
		err = m.Do(ctx, func(ctx context.Context, l *WriteLock) error {
			w.op("RWMutex.Do")
			defer w.releasing(w.held("rw", wire.Exclusive, 0, l.hold, true))
			w.stay(ctx, l.hold)
			return nil
		})
	case 4:
		err = m.RDo(ctx, func(ctx context.Context, l *ReadLock) error {
			w.op("RWMutex.RDo")
			defer w.releasing(w.held("rw", wire.Shared, 0, l.hold, true))
			w.stay(ctx, l.hold)
			return nil
		})
	default:
		read("RWMutex.RLock")(m.RLock(ctx))
	}
	w.expected("Do", err)
}

// writes is what a writer does; now and then it goes on as a reader.
func (w *locksmith) writes(ctx context.Context, l *WriteLock, held *fleetHold) {
	w.stay(ctx, l.hold)
	if w.r.IntN(3) > 0 {
		w.frees(held, l.Unlock, "WriteLock.Unlock")
		return
	}
	bounded, cancel := context.WithTimeout(w.life, time.Duration(1+w.r.Int64N(int64(3*time.Second))))
	defer cancel()
	w.releasing(held)
	rl, err := l.Downgrade(bounded)
	if err != nil {
		w.released("rw", err)
		if errors.Is(err, ErrReentryLimit) {
			_ = l.Unlock(bounded)
		}
		return
	}
	w.op("WriteLock.Downgrade")
	w.reads(ctx, rl, w.held("rw", wire.Shared, 0, rl.hold, true))
}

// reads is what a reader does; now and then it becomes a writer.
func (w *locksmith) reads(ctx context.Context, l *ReadLock, held *fleetHold) {
	w.stay(ctx, l.hold)
	if w.r.IntN(3) == 0 {
		bounded, cancel := context.WithTimeout(w.life, time.Duration(1+w.r.Int64N(int64(4*time.Second))))
		wl, err := l.Upgrade(bounded)
		cancel()
		if err == nil {
			w.op("ReadLock.Upgrade")
			w.writes(ctx, wl, w.held("rw", wire.Exclusive, 0, wl.hold, true))
			return
		}
		w.expected("Upgrade", err)
	}
	w.frees(held, l.Unlock, "ReadLock.Unlock")
}

// frees releases.
func (w *locksmith) frees(held *fleetHold, release func(context.Context) error, op string) {
	w.releasing(held)
	bounded, cancel := context.WithTimeout(w.life, time.Duration(1+w.r.Int64N(int64(5*time.Second))))
	defer cancel()
	err := release(bounded)
	w.released(held.name, err)
	if err == nil {
		w.op(op)
	}
}

// permits uses a Semaphore.
func (w *locksmith) permits(ctx context.Context) {
	m := NewSemaphore(w.session, "sem", fleetLimit, w.lockOptions()...)
	w.op("NewSemaphore", "Semaphore.Name")
	n := 1 + w.r.IntN(fleetLimit)
	acquire, op := m.Acquire, "Semaphore.Acquire"
	switch w.r.IntN(5) {
	case 0:
		acquire, op = m.TryAcquire, "Semaphore.TryAcquire"
	case 1:
		err := m.Do(ctx, n, func(ctx context.Context, p *Permit) error {
			w.op("Semaphore.Do")
			defer w.releasing(w.held("sem", wire.Counted, n, p.hold, true))
			w.stay(ctx, p.hold)
			return nil
		})
		w.permitsRefused(err)
		return
	}
	p, err := acquire(ctx, n)
	if err != nil {
		w.permitsRefused(err)
		return
	}
	w.op(op, "Permit.Permits")
	if p.Permits() != n || m.Name() != "sem" {
		w.violation(order, "%d permits of %s, of %d", p.Permits(), m.Name(), n)
	}
	held := w.held("sem", wire.Counted, n, p.hold, true)
	w.stay(ctx, p.hold)
	w.frees(held, p.Release, "Permit.Release")
}

// permitsRefused takes note of why permits were not had: a limit may be smaller than what is asked for.
func (w *locksmith) permitsRefused(err error) {
	if !errors.Is(err, ErrInvalidPermits) {
		w.expected("permits", err)
	}
}

// several locks some names at once.
func (w *locksmith) several(ctx context.Context) {
	all := []string{"set/a", "set/b", "set/c"}
	var names []string
	for _, i := range w.r.Perm(len(all))[:1+w.r.IntN(len(all))] {
		names = append(names, all[i])
	}
	hold := func(ctx context.Context, set *LockSet) []*fleetHold {
		w.op("LockSet.Names", "LockSet.Keys", "LockSet.Guards", "LockSet.Token", "LockSet.Deadline", "LockSet.Err", "LockSet.Context", "LockSet.Asked")
		held := w.grantSet(w.process, names, w.who, set)
		if len(set.Names()) != len(names) || len(set.Keys()) != len(names) || len(set.Guards()) != len(names) {
			w.violation(order, "a set of %d has %v, %v", len(names), set.Names(), set.Keys())
		}
		if set.Err() == nil && (set.Token() == 0 || set.Context() == nil || set.Asked() == nil) {
			w.violation(order, "a set without a token")
		}
		select {
		case <-set.Done():
			w.op("LockSet.Done")
		case <-ctx.Done():
		case <-time.After(time.Duration(w.r.Int64N(int64(600 * time.Millisecond)))):
		}
		return held
	}
	m := NewMultiMutex(w.session, names, w.lockOptions()...)
	w.op("NewMultiMutex", "MultiMutex.Names")
	if !slices.Equal(m.Names(), names) {
		w.violation(order, "the names are %q", m.Names())
	}
	var set *LockSet
	var err error
	op := "MultiMutex.Lock"
	switch w.r.IntN(5) {
	case 0:
		set, err = m.TryLock(ctx)
		op = "MultiMutex.TryLock"
	case 1:
		err = m.Do(ctx, func(ctx context.Context, set *LockSet) error {
			w.op("MultiMutex.Do")
			for _, h := range hold(ctx, set) {
				w.releasing(h)
			}
			return nil
		})
	case 2: // one name alone, which others lock as a part of a set
		w.exclusive(ctx, NewMutex(w.session, names[0], w.options()...))
		return
	case 3: // under a hold, so that a cycle is looked for
		l, e := NewMutex(w.session, "dead/x").Lock(ctx)
		if e != nil {
			w.refused("dead/x", e)
			return
		}
		defer w.unlock(ctx, l, w.held("dead/x", wire.Exclusive, 0, l.hold, false))
		under, cancel := context.WithTimeout(l.Context(), 2*time.Second)
		set, err = m.Lock(under)
		cancel()
	default:
		set, err = m.Lock(ctx)
	}
	if err != nil {
		w.refused("several", err)
		return
	}
	if set == nil {
		return
	}
	w.op(op)
	for _, h := range hold(ctx, set) {
		w.releasing(h)
	}
	bounded, cancel := context.WithTimeout(w.life, time.Duration(1+w.r.Int64N(int64(5*time.Second))))
	defer cancel()
	err = set.Unlock(bounded)
	w.released("several", err)
	if err == nil {
		w.op("LockSet.Unlock")
	}
}

const fleetReason = "the fleet's operator asks"

// An operator is the goroutine of a process that looks on, asks, and changes limits.
type operator struct {
	*process
	r *rand.Rand
}

func (o *operator) work() {
	for {
		select {
		case <-o.life.Done():
			return
		case <-time.After(time.Duration(1 + o.r.Int64N(int64(2*time.Second)))):
		}
		if o.calming.Load() {
			continue
		}
		ctx, cancel := context.WithTimeout(o.life, time.Duration(1+o.r.Int64N(int64(4*time.Second))))
		o.round(ctx)
		cancel()
	}
}

func (o *operator) round(ctx context.Context) {
	s := o.session
	report := func(op string, err error) {
		if o.expected(op, err); err == nil {
			o.op(op)
		}
	}
	switch o.r.IntN(17) {
	case 0:
		q, err := NewMutex(s, "m").Queue(ctx)
		report("Mutex.Queue", err)
		for i := 1; i < len(q); i++ {
			if q[i-1].CreateRevision >= q[i].CreateRevision {
				o.violation(order, "a queue in another order: %v", q)
			}
		}
	case 1:
		_, err := NewRWMutex(s, "rw").Queue(ctx)
		report("RWMutex.Queue", err)
		_, err = NewMultiMutex(s, []string{"set/a", "set/b", "set/c"}).Queue(ctx)
		report("MultiMutex.Queue", err)
	case 2:
		_, err := NewSemaphore(s, "sem", fleetLimit).Queue(ctx)
		report("Semaphore.Queue", err)
		_, err = NewSemaphore(s, "sem", fleetLimit).Limit(ctx)
		report("Semaphore.Limit", err)
	case 3:
		limit := 1 + o.r.IntN(fleetLimit+2)
		err := NewSemaphore(s, "sem", fleetLimit).SetLimit(ctx, limit)
		if err == nil {
			o.confirmed(limit)
		}
		report("Semaphore.SetLimit", err)
	case 4:
		err := s.Ask(ctx, fleetNames[o.r.IntN(len(fleetNames)-2)], fleetReason)
		report("Session.Ask", err)
	case 5:
		all, err := s.Deadlocks(ctx, "dead/")
		report("Session.Deadlocks", err)
		for _, d := range all {
			o.op("Deadlock.String")
			_ = d.String()
		}
	case 6:
		e := NewElection(s, "e")
		l, err := e.Leader(ctx)
		if report("Election.Leader", err); err == nil {
			o.op("Leader.Vacant", "Leader.Paused", "Election.Name")
			if l.Vacant() || l.Paused() || e.Name() != "e" {
				o.violation(order, "nobody leads, and there was no error")
			}
		}
	case 7:
		all, err := NewElection(s, "e").Candidates(ctx)
		report("Election.Candidates", err)
		for i, c := range all {
			if c.Leading != (i == 0) || c.Leading && !c.Holding {
				o.violation(order, "the first of the candidates does not lead: %v", all)
			}
		}
		_, err = NewElection(s, "e").Queue(ctx)
		report("Election.Queue", err)
	case 8, 9:
		o.lookOn(ctx)
	case 10:
		if o.row.has("session.WithLease") || o.row.has("session.WithLeaseFile") {
			_, err := s.Adopted(ctx)
			report("Session.Adopted", err)
			if o.row.has("session.WithLease") && err == nil {
				report("Session.ReleaseAdopted", s.ReleaseAdopted(ctx))
			}
		}
	case 11:
		for state := range s.States(ctx) {
			o.op("Session.States", "State.String")
			if state.String() == "unknown" {
				o.violation(order, "a state without a name")
			}
		}
	case 12:
		o.op("Session.Client", "Session.Done", "Session.Err", "Session.State", "Session.Lease", "Session.TTL", "Session.LeaseTTL")
		select {
		case <-s.Done():
			if s.Err() == nil {
				o.violation(order, "a session is done without a reason")
			}
		default:
		}
		if s.Client() != o.client.Client || s.State() == 0 || s.TTL() < time.Second || s.LeaseTTL() < s.TTL() {
			o.violation(order, "a session that tells nonsense")
		}
	case 13, 14:
		to := fmt.Sprintf("instance-%d", o.r.IntN(fleetInstances))
		err := NewElection(s, "e").AskToTransfer(ctx, to, fleetReason)
		o.note("%s asks for a transfer to %s: %v", o.id, to, err)
		report("Election.AskToTransfer", err)
	case 15:
		err := NewElection(s, "e").AskToResign(ctx, fleetReason)
		o.note("%s asks for a resignation: %v", o.id, err)
		report("Election.AskToResign", err)
	default:
		if o.row.has("run.WithMonitor") {
			_, err := o.monitor.Candidates(ctx)
			report("Monitor.Candidates", err)
		}
	}
}

// lookOn observes the leaders for a while. The terms come in order.
func (o *operator) lookOn(ctx context.Context) {
	var last int64
	for l, err := range NewElection(o.session, "e").Observe(ctx) {
		if err != nil {
			o.expected("Observe", err)
			return
		}
		o.op("Election.Observe")
		if l.Vacant() {
			continue
		}
		if l.CreateRevision < last && !o.restored() {
			o.violation(order, "%s observes the term %d after %d", o.id, l.CreateRevision, last)
		}
		last = l.CreateRevision
	}
}
