package etcdlocktest

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/testhook"
)

// Handle says which handle [NewLock] and [NewTerm] make. The zero value is a handle that is held.
type Handle struct {
	// Name is the name that is held, "test" if it is empty.
	Name string
	// Token is the fencing token, at least 2. 0 is any token.
	Token int64
	// Err is the reason for which the hold has ended, as [End] takes it. nil means that it is held.
	Err error
}

// NewLock returns a lock for a unit test of a function that gets one. It is held until the test ends,
// unless h says otherwise. All of its methods work, and end at an etcd in memory of its own. In a
// bubble of testing/synctest call NewLock inside.
func NewLock(t testing.TB, h Handle) *etcdlock.Lock {
	t.Helper()
	own := newHandle(t, h)
	lock, err := etcdlock.NewMutex(own.session, own.name).Lock(context.Background())
	own.ready(lock, err, h)
	return lock
}

// NewTerm is NewLock for a term, with a value.
func NewTerm(t testing.TB, value string, h Handle) *etcdlock.Term {
	t.Helper()
	own := newHandle(t, h)
	term, err := etcdlock.NewElection(own.session, own.name).Campaign(context.Background(), value)
	own.ready(term, err, h)
	return term
}

// NewMonitor returns a monitor with a status, for a unit test of a function that gets one. The status
// has the term, and tells that this process leads while the term is held. The term can be nil.
func NewMonitor(status etcdlock.ElectionStatus, term *etcdlock.Term) *etcdlock.Monitor {
	m := new(etcdlock.Monitor)
	testhook.Root.SetMonitor(m, status, term)
	return m
}

// End ends a hold of [NewLock] or [NewTerm] for a reason, and returns when it has ended. The reason is
// [etcdlock.ErrExpired], [etcdlock.ErrRevoked], [etcdlock.ErrEvicted], [etcdlock.ErrSessionClosed] or
// [etcdlock.ErrClientClosed].
func End(t testing.TB, hold etcdlock.Held, reason error) {
	t.Helper()
	found, ok := handles.Load(hold)
	if !ok {
		t.Fatal("etcdlocktest: End takes a hold of NewLock or NewTerm")
	}
	own := found.(*handle)
	switch {
	case errors.Is(reason, etcdlock.ErrExpired):
		own.etcd.Expire(own.name)
	case errors.Is(reason, etcdlock.ErrRevoked):
		own.etcd.Revoke(own.name)
	case errors.Is(reason, etcdlock.ErrEvicted):
		own.etcd.Evict(own.name)
	case errors.Is(reason, etcdlock.ErrClientClosed):
		own.process.Kill()
	case errors.Is(reason, etcdlock.ErrSessionClosed):
		_ = own.session.Close(context.Background())
	default:
		t.Fatalf("etcdlocktest: End for %v: the package documentation has the reasons", reason)
	}
	_ = hold.Err() // looks at the clock
	<-hold.Done()
}

// handles are the handles of all running tests, by their hold.
var handles sync.Map

// handle is what lies behind a hold for a unit test.
type handle struct {
	t       testing.TB
	etcd    *Etcd
	process *Process
	session *etcdlock.Session
	name    string
}

func newHandle(t testing.TB, h Handle) *handle {
	t.Helper()
	e := newEtcd(t, []Option{WithLatency(0, 0)})
	s := newSim(e)
	if h.Token > 2 {
		s.Stop()
		s.Restore(nil, simetcd.Restored{BumpRevision: h.Token - 2})
		s.Start()
	}
	e.server = s
	t.Cleanup(e.abandon) // the function under test may keep the hold
	own := &handle{t: t, etcd: e, process: e.Process("test"), name: h.Name}
	if own.name == "" {
		own.name = "test"
	}
	own.session = own.process.Session()
	return own
}

// ready ends the hold if it is to be one that has ended.
func (own *handle) ready(hold etcdlock.Held, err error, h Handle) {
	own.t.Helper()
	if err != nil {
		own.t.Fatalf("etcdlocktest: %v", err)
	}
	handles.Store(hold, own)
	own.t.Cleanup(func() { handles.Delete(hold) })
	if h.Err != nil {
		End(own.t, hold, h.Err)
	}
}
