package local

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/names"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/states"
	"github.com/etcdlock/etcdlock/internal/wire"
)

func TestMain(m *testing.M) {
	states.Refused = func(err error) { panic(err) }
	m.Run()
}

// rig is a table without etcd. What a step leaves to be done is recorded, and done by the test.
type rig struct {
	*testing.T
	*Table
	lease  *lease.Lease
	now    time.Duration
	begun  chan Begun // by workers
	finish chan *Ownership
	closed bool
	bug    error
	end    context.CancelCauseFunc // of the session
}

// lessor grants leases without etcd.
type lessor struct{ clientv3.Lease }

func (lessor) Grant(context.Context, int64) (*clientv3.LeaseGrantResponse, error) {
	return &clientv3.LeaseGrantResponse{ID: 7, TTL: 60}, nil
}

// silent opens no watch. A hold that has lasted for a while asks for one.
type silent struct{ clientv3.Watcher }

func (silent) Watch(ctx context.Context, _ string, _ ...clientv3.OpOption) clientv3.WatchChan {
	events := make(chan clientv3.WatchResponse)
	context.AfterFunc(ctx, func() { close(events) })
	return events
}

func newRig(t *testing.T) *rig {
	life, end := context.WithCancelCause(context.Background())
	r := &rig{T: t, begun: make(chan Begun, 10), finish: make(chan *Ownership, 10), end: end}
	t.Cleanup(func() { end(lockerr.ErrSessionClosed) })
	clock := func() time.Duration { return r.now }
	r.Table = New(Config{
		Life: life, Names: names.New(), Queues: queue.NewQueues(queue.Config{Life: life, Watcher: silent{}, Log: zap.NewNop()}), Clock: clock, Log: zap.NewNop(),
		MayStand: func(clientv3.LeaseID, []string) bool { return false },
		Dropped:  func(string, wire.Slot) {},
		Closed:   func() { r.closed = true },
		Work:     func(_ *Queue, b Begun) { r.begun <- b },
		Finish:   func(o *Ownership) { r.finish <- o },
		Explain:  func() {},
		Fail: func(bug error) {
			r.bug = bug
			end(bug)
		},
	})
	var err error
	r.lease, err = lease.Grant(life, life, lease.Config{Client: lessor{}, TTL: time.Minute, Clock: clock}, new(clientv3.LeaseID))
	require.NoError(t, err)
	r.SetLease(r.lease, 1)
	return r
}

func (r *rig) waiter() *Waiter {
	return &Waiter{Call: Call{Request: &Request{Identity: "lock", Terms: Terms{Slice: time.Second}}}}
}

// join joins a name, and fails the test if that is refused.
func (r *rig) join(name string, w *Waiter) (*Queue, *Attempt, bool) {
	r.Helper()
	l, first, granted, err := r.Join(name, w)
	require.NoError(r, err)
	return l, first, granted
}

// entry is the answer of etcd to the request of an attempt.
func (r *rig) entry() *queue.Entry {
	return &queue.Entry{Key: "m/7", Lease: r.lease.ID(), CreateRevision: 5}
}

// hold acquires a free name.
func (r *rig) hold(name string, w *Waiter) (*Hold, *Queue) {
	r.Helper()
	l, first, _ := r.join(name, w)
	require.NotNil(r, first)
	first.Entry = r.entry()
	require.True(r, l.GrantAlone(first, first.Entry.CreateRevision))
	return r.granted(w), l
}

// granted is the hold that a waiter was granted.
func (r *rig) granted(w *Waiter) *Hold {
	r.Helper()
	g, err := w.Outcome()
	require.NoError(r, err)
	h := g.Hold(r.Context(), w.Terms)
	return &h
}

// release releases a hold, and returns what is to be done.
func (r *rig) release(h *Hold) (Released, Deletion) { return r.Release(h) }

func TestACallerDrivesALocalQueueUntilItsKeyIsDeleted(t *testing.T) {
	r := newRig(t)
	h, l := r.hold("m", r.waiter())
	require.Equal(t, driverHolder, l.driver)
	require.EqualValues(t, 5, h.Token())
	released, d := r.release(h)
	require.Equal(t, Last, released)
	require.Nil(t, d.Left(true, nil))
	require.Equal(t, idle, l.phase)
	require.Equal(t, driverNone, l.driver)
	require.Empty(t, r.begun, "a worker")
	again, _ := r.release(h)
	require.Equal(t, NotHeld, again)
}

func TestAReleaseHandsOverToTheFirstWaiterOfTheSlice(t *testing.T) {
	r := newRig(t)
	first, second, late := r.waiter(), r.waiter(), r.waiter()
	h, l := r.hold("m", first)
	for _, w := range []*Waiter{second, late} {
		_, attempt, granted := r.join("m", w)
		require.Nil(t, attempt)
		require.False(t, granted)
	}
	released, _ := r.release(h)
	require.Equal(t, Passed, released)
	<-l.Told(second)
	r.now = time.Second // the slice is over
	released, d := r.release(r.granted(second))
	require.Equal(t, Last, released)
	require.Nil(t, d.Left(true, nil))
	require.Equal(t, Begun{}, <-r.begun, "a worker for the last one")
	require.Equal(t, entering, l.phase)
	next, _ := l.Next(false)
	require.Equal(t, Serve, next)
}

func TestAnEntryGoesToTheNextWaiterIfTheFirstOneGivesUp(t *testing.T) {
	r := newRig(t)
	first, second := r.waiter(), r.waiter()
	l, attempt, _ := r.join("m", first)
	r.join("m", second)
	left, _ := l.GiveUp(first)
	require.True(t, left)
	require.NoError(t, attempt.Wanted.Cause())
	require.Same(t, second, l.Successor(first))
	attempt.Entry = r.entry()
	require.False(t, l.GrantAlone(attempt, 7), "the caller has gone")
	l.Resume(attempt)
	require.Same(t, attempt, (<-r.begun).Attempt)
	owned, write := l.Grant(attempt, 9, "lock")
	require.Nil(t, write)
	require.NotNil(t, owned)
	require.EqualValues(t, 9, r.granted(second).Token())
	left, _ = l.GiveUp(second)
	require.False(t, left)
}

func TestAnAttemptOfNoWaiterIsUnwanted(t *testing.T) {
	r := newRig(t)
	w := r.waiter()
	l, attempt, _ := r.join("m", w)
	_, _ = l.GiveUp(w)
	require.ErrorIs(t, attempt.Wanted.Cause(), ErrUnwanted)
	_, err := w.Outcome()
	require.ErrorIs(t, err, ErrUnwanted)
	l.Refused(attempt)
	require.Equal(t, idle, l.phase)
}

func TestAWaiterOfAnotherOwnerWritesItsValueFirst(t *testing.T) {
	r := newRig(t)
	first, second := r.waiter(), r.waiter()
	second.Identity = "of another owner"
	l, attempt, _ := r.join("m", first)
	r.join("m", second)
	_, _ = l.GiveUp(first)
	l.Resume(attempt)
	owned, write := l.Grant(attempt, 9, "lock")
	require.Nil(t, owned)
	require.Same(t, second, write)
}

func TestAReleaseWithoutAnAnswerIsLeftToAWorker(t *testing.T) {
	r := newRig(t)
	h, l := r.hold("m", r.waiter())
	_, d := r.release(h)
	settled := d.Left(false, errors.New("no answer"))
	owned := (<-r.begun).Finish
	require.Same(t, d.Of, owned)
	d, ok := r.Finish(owned)
	require.True(t, ok)
	require.True(t, d.Tried)
	require.NoError(t, d.Lost)
	d.Settle(false, nil)
	<-settled
	require.NoError(t, d.Unconfirmed())
	next, _ := l.Next(false)
	require.Equal(t, Leave, next)
}

// The last holder's answer and the worker meet: the worker has begun to finish the ownership, as its key
// was found deleted, when the answer comes.
func TestAnOwnershipIsSettledOnce(t *testing.T) {
	r := newRig(t)
	h, l := r.hold("m", r.waiter())
	_, d := r.release(h)
	d.Of.Lose(lockerr.Lost(lockerr.ErrEvicted)) // while the deletion is under way
	finished, ok := r.Finish((<-r.begun).Finish)
	require.True(t, ok)
	require.Nil(t, d.Left(true, nil))
	held, _ := r.cfg.Names.Hold("m", wire.Slot{})
	require.True(t, held, "by another caller")
	finished.Settle(false, lockerr.NotConfirmed(finished.Lost))
	held, _ = r.cfg.Names.Hold("m", wire.Slot{})
	require.False(t, held, "its slot is dropped again")
	next, _ := l.Next(false)
	require.Equal(t, Leave, next)
	require.Equal(t, idle, l.phase)
}

func TestAKeptKeyIsTakenWithoutARequest(t *testing.T) {
	r := newRig(t)
	w := r.waiter()
	w.Terms.Retention = time.Hour
	h, _ := r.hold("m", w)
	released, _ := r.release(h)
	require.Equal(t, Passed, released)
	require.Equal(t, 1, r.Stats().Kept)
	next := r.waiter()
	_, _, granted := r.join("m", next)
	require.True(t, granted)
	require.Equal(t, PathRetained, r.granted(next).Path())
	r.granted(next).Contended()
	released, _ = r.release(r.granted(next))
	require.Equal(t, Last, released, "another session wants it")
}

func TestALossEndsWhatIsUnderTheLease(t *testing.T) {
	r := newRig(t)
	h, l := r.hold("m", r.waiter())
	r.lease.End(lockerr.Lost(lockerr.ErrRevoked))
	require.ErrorIs(t, h.Err(), lockerr.ErrRevoked)
	require.Same(t, r.lease, r.Numbered(1))
	holds, told := r.ForgetLease()
	require.Equal(t, 1, holds)
	require.Len(t, told, 1)
	require.Equal(t, driverNone, l.driver)
	require.Nil(t, r.Numbered(1))
	require.EqualValues(t, 1, r.Stats().Lost)
}

func TestADrainClosesATableThatHasOnlyHolds(t *testing.T) {
	r := newRig(t)
	r.hold("m", r.waiter())
	done := r.BeginDrain()
	_, _, _, err := r.Join("n", r.waiter())
	require.ErrorIs(t, err, lockerr.ErrOrphaned)
	ends, over, _ := r.Draining()
	require.False(t, over)
	require.Zero(t, r.Pending())
	r.CloseIf(ends)
	done()
	require.True(t, r.closed)
	require.Equal(t, "closed", r.Snapshot().Admission)
}

// In tests an illegal change of state panics, see TestMain.
func TestAnIllegalChangeOfAdmissionPhaseDriverOrOwnershipEndsTheSession(t *testing.T) {
	refused := states.Refused
	states.Refused = func(error) {}
	defer func() { states.Refused = refused }()
	for want, change := range map[string]func(h *Hold){
		"local queue from owned to waiting":      func(h *Hold) { h.owned.local.become(waiting) },
		"driver of a local queue from holder to": func(h *Hold) { h.owned.local.drive(driverHolder) },
		"ownership from held to gone":            func(h *Hold) { h.owned.become(gone) },
		"lock manager from closed to draining": func(h *Hold) {
			h.owned.local.table.gate.state = closed // as a bug would
			h.owned.local.table.admit(draining)
		},
	} {
		r := newRig(t)
		h, _ := r.hold("m", r.waiter())
		h.owned.local.table.mu.Lock()
		change(h)
		h.owned.local.table.mu.Unlock()
		require.ErrorContains(t, h.Err(), want)
		var edge *states.EdgeError
		require.ErrorAs(t, r.bug, &edge)
	}
}
