package billing

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/etcdlocktest"
)

// unlocked is Run with the lock taken out.
func unlocked(ctx context.Context, _ *etcdlock.Session, store Store, interval time.Duration) error {
	return write(ctx, store, 0, interval)
}

// expected is a test that is to fail.
type expected struct {
	testing.TB
	ctx context.Context

	mu       sync.Mutex
	failures strings.Builder
	cleanups []func()
}

func (e *expected) Errorf(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	fmt.Fprintf(&e.failures, format+"\n", args...)
}

func (e *expected) Fatalf(format string, args ...any) {
	e.Errorf(format, args...)
	runtime.Goexit()
}

func (e *expected) Failed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.failures.Len() > 0
}

func (e *expected) Context() context.Context { return e.ctx }
func (e *expected) Cleanup(f func())         { e.cleanups = append(e.cleanups, f) }

// fails plays a test that has to find two processes in the store.
func fails(t *testing.T, test func(t testing.TB)) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	e := &expected{TB: t, ctx: ctx}
	done := make(chan struct{})
	go func() {
		defer close(done)
		test(e)
	}()
	<-done
	stop()
	for _, f := range e.cleanups {
		f()
	}
	if text := e.failures.String(); !strings.Contains(text, `two are inside "invoices" at the same time`) {
		t.Errorf("a service without its lock is not caught:\n%s", text)
	}
}

func TestWithoutTheLockTheTestFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fails(t, func(t testing.TB) { movesOver(t, etcdlocktest.New(t), unlocked, etcdlock.DefaultTTL, time.Minute) })
	})
}

func TestWithoutTheLockTheTestFailsOnARealEtcd(t *testing.T) {
	fails(t, func(t testing.TB) {
		movesOver(t, etcdlocktest.Real(t, etcdlocktest.WithPatience(3*time.Second)), unlocked, 2*time.Second, 10*time.Millisecond)
	})
}
