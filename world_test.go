package etcdlock

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/states"
)

func TestMain(m *testing.M) {
	states.Refused = func(err error) { panic(err) }
	goleak.VerifyTestMain(m)
}

// world is a simulated etcd in virtual time, and the sessions on it. A test in it
// reads as the script of what happens when.
type world struct {
	*testing.T
	*simetcd.Server
	ctx context.Context // of the test; it ends when the test does

	sessions []*Session
}

// ttl is the TTL of the sessions in a world that do not ask for another.
const ttl = 10 * time.Second

// simulate runs a test in a world of its own. When the test is through, all
// sessions are closed, and nothing may be left of them in etcd or in the process:
// the bubble fails if a goroutine stays.
func simulate(t *testing.T, test func(w *world)) {
	t.Helper()
	simulateWith(t, simetcd.Config{Seed: 1}, test)
}

func simulateWith(t *testing.T, cfg simetcd.Config, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := simetcd.New(cfg)
		defer srv.Close()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		w := &world{T: t, Server: srv, ctx: ctx}
		defer w.closeSessions() // after a failure too, because a panic of the bubble would hide it
		test(w)
	})
}

func (w *world) closeSessions() {
	for _, s := range w.sessions {
		ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
		_ = s.Close(ctx) // a test that cares has closed it itself
		cancel()
	}
}

// session makes a session on the client of that name.
func (w *world) session(client string, opts ...SessionOption) *Session {
	w.Helper()
	c := w.Client(client)
	opts = append([]SessionOption{WithTTL(ttl), WithOwner(client), renewOn(c), writeOn(c)}, opts...)
	s, err := NewSession(w.ctx, c.Client, opts...)
	require.NoError(w, err)
	w.sessions = append(w.sessions, s)
	return s
}

// renewOn makes a session renew on streams, as it does on a real connection.
func renewOn(c *simetcd.Client) SessionOption {
	return sessionOptionFunc(func(cfg *sessionConfig) { cfg.Hooks.Renewals = c.Remote() })
}

// writeOn makes a session send brief writes past the client's KV, as it does on a real connection.
func writeOn(c *simetcd.Client) SessionOption {
	return sessionOptionFunc(func(cfg *sessionConfig) {
		cfg.Hooks.Direct = c.Remote()
	})
}

// writeByKV makes a session send all writes through the client's KV, as where that is a namespace's.
func writeByKV(*simetcd.Client) SessionOption {
	return sessionOptionFunc(func(cfg *sessionConfig) { cfg.Hooks.Direct = nil })
}

// watchOn makes a session watch on streams of its own, as it does on a real connection. Two runs
// are not the same then: watches of one stream are told at one instant.
func watchOn(c *simetcd.Client) SessionOption {
	return sessionOptionFunc(func(cfg *sessionConfig) { cfg.Hooks.Watches = c.Remote() })
}

// orphan orphans a session that has nothing to clear away.
func (w *world) orphan(s *Session) clientv3.LeaseID {
	w.Helper()
	id, err := s.Orphan(w.ctx)
	require.NoError(w, err)
	return id
}

// withClock makes a session count by another clock than its client's, which is the bubble's.
func withClock(now func() time.Duration) SessionOption {
	return sessionOptionFunc(func(cfg *sessionConfig) { cfg.Hooks.Clock = now })
}

// bubbleClock is a clock in virtual time.
func bubbleClock() func() time.Duration {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}

// lock locks, and must succeed within a minute.
func (w *world) lock(m *Mutex) *Lock {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	l, err := m.Lock(ctx)
	require.NoError(w, err)
	return l
}

// pending is a call that is under way in a goroutine of its own.
type pending[T any] struct {
	w      *world
	done   chan struct{}
	value  T
	err    error
	cancel context.CancelFunc
	at     time.Time // when it returned
}

// start calls f in a goroutine, with a context that can be cancelled.
func start[T any](w *world, f func(context.Context) (T, error)) *pending[T] {
	ctx, cancel := context.WithCancel(w.ctx)
	p := &pending[T]{w: w, done: make(chan struct{}), cancel: cancel}
	go func() {
		defer cancel()
		p.value, p.err = f(ctx)
		p.at = time.Now()
		close(p.done)
	}()
	return p
}

// isWaiting asserts that the call has not returned after everything that can
// happen at this instant has happened.
func (p *pending[T]) isWaiting() {
	p.w.Helper()
	synctest.Wait()
	select {
	case <-p.done:
		require.FailNow(p.w, "it returned", "%v, %v", p.value, p.err)
	default:
	}
}

// result waits for the call to return, in virtual time, for two minutes at most.
func (p *pending[T]) result() (T, error) {
	p.w.Helper()
	select {
	case <-p.done:
	case <-time.After(2 * time.Minute):
		require.FailNow(p.w, "it has not returned after two minutes")
	}
	return p.value, p.err
}

// get is result without an error.
func (p *pending[T]) get() T {
	p.w.Helper()
	v, err := p.result()
	require.NoError(p.w, err)
	return v
}

// pass lets virtual time pass.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// empty asserts that nothing is left in etcd under a name.
func (w *world) empty(name string) {
	w.Helper()
	require.Empty(w, w.Keys(name+"/"))
}

// allGone closes all sessions and asserts that nothing at all is left in etcd, no
// lease either.
func (w *world) allGone() {
	w.Helper()
	for _, s := range w.sessions {
		ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
		require.NoError(w, s.Close(ctx))
		cancel()
	}
	require.Empty(w, w.Keys(""))
	require.Empty(w, w.Leases())
}

// next lets something happen to the next request of a kind from a client, and to
// no other request.
func (w *world) next(client string, kind simetcd.Kind, act simetcd.Action) {
	w.first(1, client, kind, act)
}

// first lets something happen to the next n requests of a kind from a client.
func (w *world) first(n int, client string, kind simetcd.Kind, act simetcd.Action) {
	var seen atomic.Int64
	w.Intercept(func(c simetcd.Call) simetcd.Action {
		if c.Client == client && c.Kind == kind && seen.Add(1) <= int64(n) {
			return act
		}
		return simetcd.Action{}
	})
}

// every lets something happen to all requests of these kinds from a client, until
// the next Intercept.
func (w *world) every(client string, act simetcd.Action, kinds ...simetcd.Kind) {
	w.Intercept(func(c simetcd.Call) simetcd.Action {
		if c.Client == client && slices.Contains(kinds, c.Kind) {
			return act
		}
		return simetcd.Action{}
	})
}

// fails waits for the call to return, with an error that matches all of these.
func (p *pending[T]) fails(with ...error) {
	p.w.Helper()
	_, err := p.result()
	for _, target := range with {
		require.ErrorIs(p.w, err, target)
	}
}

// timeout is a context that ends after d.
func (w *world) timeout(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(w.ctx, d)
	w.Cleanup(cancel)
	return ctx
}
