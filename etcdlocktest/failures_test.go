package etcdlocktest_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/etcdlocktest"
)

// observed is a test that fails without failing the test around it.
type observed struct {
	testing.TB
	ctx context.Context

	mu       sync.Mutex
	failures []string
	cleanups []func()
}

func (o *observed) Errorf(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failures = append(o.failures, fmt.Sprintf(format, args...))
}

func (o *observed) Fatalf(format string, args ...any) {
	o.Errorf(format, args...)
	runtime.Goexit()
}

func (o *observed) Failed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.failures) > 0
}

func (o *observed) Cleanup(f func())         { o.cleanups = append(o.cleanups, f) }
func (o *observed) Context() context.Context { return o.ctx }

// failures runs a test in virtual time and returns how it fails.
func failures(t *testing.T, test func(t testing.TB, etcd *etcdlocktest.Etcd)) string {
	t.Helper()
	var all []string
	synctest.Test(t, func(t *testing.T) {
		o := &observed{TB: t}
		var stop context.CancelFunc
		o.ctx, stop = context.WithCancel(context.Background())
		etcd := etcdlocktest.New(o)
		done := make(chan struct{})
		go func() {
			defer close(done)
			test(o, etcd)
		}()
		<-done
		stop()
		for _, f := range o.cleanups {
			f()
		}
		all = o.failures
	})
	return strings.Join(all, "\n")
}

func takeAndForget(t testing.TB, s *etcdlock.Session) *etcdlock.Lock {
	lock, err := etcdlock.NewMutex(s, "job").Lock(t.Context())
	require.NoError(t, err)
	return lock
}

func openAndForget(t testing.TB, p *etcdlocktest.Process) *etcdlock.Session {
	s, err := etcdlock.NewSession(t.Context(), p.Client())
	require.NoError(t, err)
	return s
}

func startAndForget(leave <-chan struct{}) {
	go func() { <-leave }()
}

// What is left is told with the function that took it.
func TestWhatIsLeftFailsTheTest(t *testing.T) {
	t.Run("nothing", func(t *testing.T) {
		require.Empty(t, failures(t, func(t testing.TB, etcd *etcdlocktest.Etcd) {
			require.NoError(t, takeAndForget(t, etcd.Process("a").Session()).Unlock(t.Context()))
			etcd.NothingLeft()
		}))
	})
	t.Run("a hold", func(t *testing.T) {
		text := failures(t, func(t testing.TB, etcd *etcdlocktest.Etcd) { takeAndForget(t, etcd.Process("a").Session()) })
		require.Contains(t, text, `not released: process "a" holds ["job"]`)
		require.Contains(t, text, "takeAndForget")
		require.NotContains(t, text, "(*Mutex)", "the library's own frames are left out")
	})
	t.Run("a hold, in the middle of the test", func(t *testing.T) {
		text := failures(t, func(t testing.TB, etcd *etcdlocktest.Etcd) {
			lock := takeAndForget(t, etcd.Process("a").Session())
			etcd.NothingLeft()
			_ = lock.Unlock(t.Context())
		})
		require.Contains(t, text, "takeAndForget")
	})
	t.Run("a session", func(t *testing.T) {
		text := failures(t, func(t testing.TB, etcd *etcdlocktest.Etcd) { openAndForget(t, etcd.Process("a")) })
		require.Contains(t, text, `process "a" has not closed its session`)
		require.Contains(t, text, "openAndForget")
	})
	t.Run("a goroutine", func(t *testing.T) {
		text := failures(t, func(t testing.TB, _ *etcdlocktest.Etcd) {
			leave := make(chan struct{})
			startAndForget(leave)
			t.Cleanup(func() { close(leave) }) // after the look; the bubble would fail as well
		})
		require.Contains(t, text, "goroutines are left")
		require.Contains(t, text, "startAndForget")
	})
	t.Run("a lease of another program", func(t *testing.T) {
		text := failures(t, func(t testing.TB, etcd *etcdlocktest.Etcd) {
			_, err := etcd.Process("a").Client().Grant(t.Context(), 3600)
			require.NoError(t, err)
		})
		require.Contains(t, text, "the lease")
	})
}

func TestTwoInsideFailTheTest(t *testing.T) {
	text := failures(t, func(t testing.TB, etcd *etcdlocktest.Etcd) {
		store := etcd.Guarded("store")
		done := make(chan struct{})
		enter := func() { _ = store.Do(0, func() error { return nil }); close(done) }
		go enter()
		time.Sleep(time.Millisecond)
		_ = store.Do(0, func() error { return nil })
		<-done
	})
	require.Contains(t, text, `two are inside "store" at the same time`)
	require.Equal(t, 2, strings.Count(text, "TestTwoInsideFailTheTest"), text)
}

func TestAWaitThatIsNotMetFailsTheTestWithWhatIsThere(t *testing.T) {
	text := failures(t, func(t testing.TB, etcd *etcdlocktest.Etcd) {
		lock := takeAndForget(t, etcd.Process("a").Session())
		defer func() { _ = lock.Unlock(context.Background()) }()
		etcd.AwaitHeldBy("job", "b")
	})
	require.Contains(t, text, `not "job" held by "b" after 1h0m0s`)
	require.Contains(t, text, `"job": a holds`)
	require.Contains(t, text, "takeAndForget")
}

func TestFaultsOfAHolderNeedOne(t *testing.T) {
	for _, fault := range []func(*etcdlocktest.Etcd, string){(*etcdlocktest.Etcd).Expire, (*etcdlocktest.Etcd).Revoke, (*etcdlocktest.Etcd).Evict} {
		require.Contains(t, failures(t, func(_ testing.TB, etcd *etcdlocktest.Etcd) { fault(etcd, "job") }), `no process holds "job"`)
	}
}
