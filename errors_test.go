package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

var unavailable = status.Error(codes.Unavailable, "made for a test")

// calls are all calls that can fail for what the session or the name is.
func calls(ctx context.Context, s *Session, name string) map[string]error {
	m := NewMutex(s, name)
	return map[string]error{
		"Lock":    second(m.Lock(ctx)),
		"TryLock": second(m.TryLock(ctx)),
		"Queue":   second(m.Queue(ctx)),
		"Do":      m.Do(ctx, func(context.Context, *Lock) error { return nil }),
	}
}

// trap A14
func TestUnusableNamesAreRefusedWithoutARequest(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		require.Empty(w, requests(w.Client("a"), func() {
			for _, name := range []string{"", "/", "m/", "m//n", "m\x00"} {
				for call, err := range calls(w.ctx, s, name) {
					require.ErrorIs(w, err, ErrInvalidName, "%s %q", call, name)
					require.ErrorContains(w, err, fmt.Sprintf("%q", name))
				}
			}
		}))
		require.Equal(w, "m//n", NewMutex(s, "m//n").Name())
	})
}

func TestANilSessionAndANilClientAreToldAndDoNotPanic(t *testing.T) {
	for _, s := range []*Session{nil, {}} {
		for call, err := range calls(t.Context(), s, "m") {
			require.ErrorIs(t, err, ErrInvalidArgument, call)
			require.ErrorIs(t, err, ErrSessionClosed, call)
		}
		require.ErrorIs(t, s.Ask(t.Context(), "m", ""), ErrInvalidArgument)
		require.ErrorIs(t, second(s.Deadlocks(t.Context(), "m")), ErrInvalidArgument)
	}
	_, err := NewSession(t.Context(), nil)
	require.ErrorIs(t, err, ErrNilClient)
	require.ErrorIs(t, err, ErrInvalidArgument)
}

// A program has them by mistake: a variable that was never set, a struct that is made without its
// function.
func TestZeroValuesAreToldAndDoNotPanic(t *testing.T) {
	ctx := t.Context()
	for of, err := range map[string]error{
		"Mutex.Lock":              second(new(Mutex).Lock(ctx)),
		"Mutex.TryLock":           second(new(Mutex).TryLock(ctx)),
		"Mutex.Do":                new(Mutex).Do(ctx, func(context.Context, *Lock) error { return nil }),
		"Mutex.Queue":             second(new(Mutex).Queue(ctx)),
		"RWMutex.Lock":            second(new(RWMutex).Lock(ctx)),
		"RWMutex.TryRLock":        second(new(RWMutex).TryRLock(ctx)),
		"RWMutex.Queue":           second(new(RWMutex).Queue(ctx)),
		"Semaphore.Acquire":       second(new(Semaphore).Acquire(ctx, 1)),
		"Semaphore.Limit":         second(new(Semaphore).Limit(ctx)),
		"Semaphore.SetLimit":      new(Semaphore).SetLimit(ctx, 1),
		"Semaphore of no session": second(NewSemaphore(nil, "s", 2).TryAcquire(ctx, 1)),
		"MultiMutex.Lock":         second(new(MultiMutex).Lock(ctx)),
		"MultiMutex.Queue":        second(new(MultiMutex).Queue(ctx)),
		"MultiMutex of nobody":    second(NewMultiMutex(nil, []string{"a"}).Lock(ctx)),
		"Election.Campaign":       second(new(Election).Campaign(ctx, "v")),
		"Election.Leader":         second(new(Election).Leader(ctx)),
		"Election.Candidates":     second(new(Election).Candidates(ctx)),
		"Election.Run":            new(Election).Run(ctx, "v", func(context.Context, *Term) error { return nil }),
		"Striped.For":             second(new(Striped).For("key").Lock(ctx)),
		"Lock.Unlock":             new(Lock).Unlock(ctx),
		"Lock.Err":                new(Lock).Err(),
		"Lock.Context":            context.Cause(new(Lock).Context()),
		"WriteLock.Unlock":        new(WriteLock).Unlock(ctx),
		"WriteLock.Downgrade":     second(new(WriteLock).Downgrade(ctx)),
		"ReadLock.Unlock":         new(ReadLock).Unlock(ctx),
		"ReadLock.Upgrade":        second(new(ReadLock).Upgrade(ctx)),
		"Permit.Release":          new(Permit).Release(ctx),
		"LockSet.Unlock":          new(LockSet).Unlock(ctx),
		"LockSet.Err":             new(LockSet).Err(),
		"Term.Resign":             new(Term).Resign(ctx),
		"Term.Proclaim":           new(Term).Proclaim(ctx, "v"),
		"Term.Transfer":           new(Term).Transfer(ctx, "v"),
		"Term.AwaitPreemption":    second(new(Term).AwaitPreemption(ctx)),
	} {
		require.ErrorIs(t, err, ErrInvalidArgument, of)
	}
	for _, err := range new(Election).Observe(ctx) {
		require.ErrorIs(t, err, ErrInvalidArgument)
	}
	require.Zero(t, new(Lock).Deadline())
	<-new(Lock).Done()
}

// trap A14, within one session
func TestNestedNamesClashWithinASession(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		inner := w.lock(NewMutex(s, "a/b/c"))
		for _, outer := range []string{"a", "a/b"} {
			for _, err := range []error{second(NewMutex(s, outer).Lock(w.ctx)), second(NewMutex(s, outer).TryLock(w.ctx))} {
				require.ErrorIs(w, err, ErrNestedName)
				require.ErrorContains(w, err, `"a/b/c"`)
				require.ErrorContains(w, err, fmt.Sprintf("%q", outer))
			}
		}
		for _, beside := range []string{"a/bc", "a/b/cd", "a/d", "ab", "b"} {
			require.NoError(w, w.lock(NewMutex(s, beside)).Unlock(w.ctx), beside)
		}
		require.NoError(w, inner.Unlock(w.ctx))

		outer := w.lock(NewMutex(s, "a"))
		require.ErrorIs(w, second(NewMutex(s, "a/b/c").Lock(w.ctx)), ErrNestedName)
		require.NoError(w, outer.Unlock(w.ctx))
		require.NoError(w, w.lock(NewMutex(s, "a/b/c")).Unlock(w.ctx), "a name is in use only while a caller uses it")
		w.allGone()
	})
}

// trap A14, against another session: the outer name sees the inner one's keys. The
// other way round nothing can be seen, and nothing goes wrong for the outer holder.
func TestNestedNamesClashAcrossSessions(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := w.session("a"), w.session("b")
		inner := w.lock(NewMutex(a, "x/y"))
		for _, err := range []error{second(NewMutex(b, "x").Lock(w.ctx)), second(NewMutex(b, "x").TryLock(w.ctx))} {
			require.ErrorIs(w, err, ErrNestedName)
			require.ErrorContains(w, err, `"x/y"`)
			require.ErrorContains(w, err, `"x"`)
		}
		w.pass(time.Second)
		require.Len(w, w.Keys(""), 1, "only the inner one's")
		require.NoError(w, inner.Unlock(w.ctx))

		outer := w.lock(NewMutex(b, "x"))
		inner = w.lock(NewMutex(a, "x/y"))
		w.pass(time.Minute)
		require.NoError(w, outer.Err())
		require.NoError(w, outer.Unlock(w.ctx))
		require.NoError(w, inner.Unlock(w.ctx))
		w.allGone()
	})
}

// trap A14: "a/" lies inside "a", for a session that was allowed such names.
func TestForeignNamesHaveToBeAskedForAndNest(t *testing.T) {
	simulate(t, func(w *world) {
		strict, a, b := w.session("a"), w.session("a", WithForeignNames()), w.session("b", WithForeignNames())
		for _, name := range []string{"m/", "/m/", "m//n", "/"} {
			require.ErrorIs(w, second(NewMutex(strict, name).TryLock(w.ctx)), ErrInvalidName, name)
			l := w.lock(NewMutex(a, name))
			require.Equal(w, name+"/"+wire.Hex(a.Lease()), l.Key(), "as etcd's own package has it")
			require.ErrorIs(w, second(NewMutex(b, name).TryLock(w.ctx)), ErrLocked, name)
			require.NoError(w, l.Unlock(w.ctx), name)
		}
		for _, name := range []string{"", "a\x00b"} {
			require.ErrorIs(w, second(NewMutex(a, name).Lock(w.ctx)), ErrInvalidName, "%q", name)
		}

		inner := w.lock(NewMutex(a, "m/"))
		for _, outer := range []*Session{a, b, strict} {
			for _, err := range []error{second(NewMutex(outer, "m").Lock(w.ctx)), second(NewMutex(outer, "m").TryLock(w.ctx))} {
				require.ErrorIs(w, err, ErrNestedName)
				require.ErrorContains(w, err, `"m"`)
				require.ErrorContains(w, err, `"m/"`)
			}
		}
		require.NoError(w, inner.Unlock(w.ctx))
		outer := w.lock(NewMutex(a, "m"))
		require.ErrorIs(w, second(NewMutex(a, "m/").Lock(w.ctx)), ErrNestedName)
		require.ErrorIs(w, second(NewMutex(a, "m/n/").TryLock(w.ctx)), ErrNestedName)
		require.NoError(w, outer.Unlock(w.ctx))
		w.allGone()
	})
}

func TestAContextThatIsOverMakesNoRequest(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		ctx, cancel := context.WithCancelCause(w.ctx)
		why := errors.New("shutting down")
		cancel(why)
		require.Empty(w, requests(w.Client("a"), func() {
			for call, err := range calls(ctx, s, "m") {
				if call == "Queue" {
					continue // clientv3 sends it
				}
				require.ErrorIs(w, err, context.Canceled, call)
				require.ErrorIs(w, err, why, call)
			}
		}))
		w.allGone()
	})
}

// A context that ends in the very instant of the grant: either the caller
// gets the lock, or it is released.
func TestAContextThatEndsWithTheGrantLeaksNoLock(t *testing.T) {
	for _, waits := range []bool{false, true} {
		// The world is the same each time, so the grant comes after the same time.
		try := func(bound time.Duration) (took time.Duration, err error) {
			simulate(t, func(w *world) {
				m := NewMutex(w.session("a"), "m")
				if waits {
					l := w.lock(NewMutex(w.session("b"), "m"))
					time.AfterFunc(100*time.Millisecond, func() { _ = l.Unlock(w.ctx) })
				}
				began := time.Now()
				var l *Lock
				l, err = m.Lock(w.timeout(bound))
				took = time.Since(began)
				if err == nil {
					require.NoError(w, l.Err())
					require.NoError(w, l.Unlock(w.ctx))
				} else {
					require.ErrorIs(w, err, context.DeadlineExceeded)
					require.Nil(w, l)
				}
				w.pass(500 * time.Millisecond)
				w.empty("m")
				w.allGone()
			})
			return took, err
		}
		grant, err := try(time.Minute)
		require.NoError(t, err)
		for range 20 {
			took, _ := try(grant)
			require.Equal(t, grant, took)
		}
		for d := -2 * time.Millisecond; d < 2*time.Millisecond; d += 100 * time.Microsecond {
			_, err := try(max(grant+d, 0))
			require.Equal(t, d <= 0, err != nil || d == 0, "%v", d)
		}
	}
}

// lateContext is a context that ends while the caller is not looking: its Done
// returns after a second, and then it is over.
type lateContext struct {
	context.Context
	over atomic.Bool
}

func (c *lateContext) Done() <-chan struct{} {
	time.Sleep(time.Second)
	c.over.Store(true)
	done := make(chan struct{})
	close(done)
	return done
}

func (c *lateContext) Err() error {
	if c.over.Load() {
		return context.Canceled
	}
	return nil
}

// The same, with the grant and the end of the context both there when the caller
// looks; which one it sees is up to chance.
func TestAGrantThatNobodyTakesIsGivenBack(t *testing.T) {
	simulate(t, func(w *world) {
		m := NewMutex(w.session("a"), "m")
		seen := make(map[bool]int)
		for range 40 {
			other := w.lock(m)
			time.AfterFunc(500*time.Millisecond, func() { _ = other.Unlock(w.ctx) })
			l, err := m.Lock(&lateContext{Context: w.ctx})
			seen[err == nil]++
			if err == nil {
				require.NoError(w, l.Unlock(w.ctx))
			}
			w.pass(100 * time.Millisecond)
			w.empty("m")
		}
		require.Len(w, seen, 2, "%v", seen)
		w.allGone()
	})
}

func TestACancelledWaitLeavesTheLineAtOnce(t *testing.T) {
	simulate(t, func(w *world) {
		held := w.lock(NewMutex(w.session("a"), "m"))
		b := start(w, NewMutex(w.session("b"), "m").Lock)
		w.pass(time.Second)
		b.cancel()
		synctest.Wait()
		b.fails(context.Canceled)
		w.pass(10 * time.Millisecond)
		require.Len(w, w.Keys("m/"), 1)
		require.NoError(w, held.Err())
		require.NoError(w, held.Unlock(w.ctx))
		w.allGone()
	})
}

// A waiter holds nothing, so its call waits for the reason for as long as etcd takes to tell it.
func TestALeaseRevokedDuringAWaitIsToldThoughEtcdAnswersSlowly(t *testing.T) {
	for _, slow := range []simetcd.Action{{DelayReply: 800 * time.Millisecond}, {DropRequest: true}} {
		for after := time.Duration(0); after < 4*time.Millisecond; after += 400 * time.Microsecond {
			simulate(t, func(w *world) {
				w.lock(NewMutex(w.session("b"), "m"))
				s := w.session("a")
				wait := start(w, NewMutex(s, "m").Lock)
				w.pass(after)
				w.next("a", simetcd.LeaseTimeToLive, slow)
				w.RevokeLease(s.Lease())
				w.pass(2 * time.Second)
				_, err := wait.result()
				require.ErrorIs(w, err, ErrRevoked)
				require.NotErrorIs(w, err, ErrEvicted)
			})
		}
	}
}

// A lease revoked while its session waits: all callers that shared the place are notified, and the
// session goes on. Revoked before the enqueue arrives, after it was applied and
// before the answer, and while in line.
func TestALeaseRevokedDuringAWaitIsTold(t *testing.T) {
	for after := time.Duration(0); after < 4*time.Millisecond; after += 100 * time.Microsecond {
		for _, taken := range []bool{false, true} {
			simulate(t, func(w *world) {
				s := w.session("a")
				if taken {
					w.lock(NewMutex(w.session("b"), "m"))
				}
				wait := start(w, NewMutex(s, "m").Lock)
				w.pass(after)
				w.RevokeLease(s.Lease())
				w.pass(time.Second)
				if _, err := wait.result(); err == nil {
					require.False(w, taken)
					err = wait.value.Err() // granted by the evidence of its time, and told soon
					require.ErrorIs(w, err, ErrRevoked)
				} else {
					require.ErrorIs(w, err, ErrLost)
					require.ErrorIs(w, err, ErrRevoked)
				}
				require.NoError(w, w.lock(NewMutex(s, "n")).Unlock(w.ctx))
				w.allGone()
			})
		}
	}
}
