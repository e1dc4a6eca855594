package concurrency

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a simulated etcd in virtual time, and the sessions on it.
type world struct {
	*testing.T
	*simetcd.Server
	ctx  context.Context
	logs *observer.ObservedLogs // of this package and of etcdlock, from Warn on
}

// simulate runs a test in a world of its own. At its end all sessions are closed, and the
// bubble fails if a goroutine stays.
func simulate(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.WarnLevel)
		srv := simetcd.New(simetcd.Config{Seed: 1, Logger: zap.New(core)})
		defer srv.Close()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		test(&world{T: t, Server: srv, ctx: ctx, logs: logs})
	})
}

// session makes a session of 10 s on the client of that name.
func (w *world) session(client string, opts ...SessionOption) *Session {
	w.Helper()
	s, err := NewSession(w.Client(client).Client, append([]SessionOption{WithTTL(10)}, opts...)...)
	require.NoError(w, err)
	w.Cleanup(func() { _ = s.Close() })
	return s
}

// pass lets virtual time pass.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// pending is a call that is under way.
type pending struct {
	w      *world
	done   chan struct{}
	err    error
	at     time.Time
	cancel context.CancelFunc
}

func (w *world) start(f func(context.Context) error) *pending {
	ctx, cancel := context.WithCancel(w.ctx)
	p := &pending{w: w, done: make(chan struct{}), cancel: cancel}
	go func() {
		defer cancel()
		p.err, p.at = f(ctx), time.Now()
		close(p.done)
	}()
	w.pass(5 * time.Millisecond) // it is in line now
	return p
}

func (p *pending) isWaiting() {
	p.w.Helper()
	synctest.Wait()
	select {
	case <-p.done:
		require.FailNow(p.w, "it returned", "%v", p.err)
	default:
	}
}

func (p *pending) result() error {
	p.w.Helper()
	select {
	case <-p.done:
	case <-time.After(2 * time.Minute):
		require.FailNow(p.w, "it has not returned after two minutes")
	}
	return p.err
}

// next lets something happen to the next request of a kind from a client.
func (w *world) next(client string, kind simetcd.Kind, act simetcd.Action) {
	var seen atomic.Bool
	w.Intercept(func(c simetcd.Call) simetcd.Action {
		if c.Client == client && c.Kind == kind && seen.CompareAndSwap(false, true) {
			return act
		}
		return simetcd.Action{}
	})
}

func (w *world) timeout(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(w.ctx, d)
	w.Cleanup(cancel)
	return ctx
}

// isOwner tells whether the comparison holds in etcd.
func (w *world) isOwner(m *Mutex) bool {
	w.Helper()
	resp, err := w.Client("judge").Txn(w.ctx).If(m.IsOwner()).Commit()
	require.NoError(w, err)
	return resp.Succeeded
}
