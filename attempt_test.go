package etcdlock

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/sweeper"
)

// A cancelled attempt continues for the callers that have joined, with their request. A reader
// must not wait behind the key of a writer that has given up, when only readers hold.
func TestWhoJoinedAnAttemptIsNotHeldUpByWhatItWanted(t *testing.T) {
	for what, act := range map[string]simetcd.Action{
		"slow request": {DelayRequest: 100 * time.Millisecond},
		"slow answer":  {DelayReply: 100 * time.Millisecond},
		"lost request": {DropRequest: true},
	} {
		t.Run(what, func(t *testing.T) {
			simulate(t, func(w *world) {
				reads, err := NewRWMutex(w.session("b"), "m").RLock(w.ctx)
				require.NoError(w, err)
				m := NewRWMutex(w.session("a"), "m")
				w.next("a", simetcd.Txn, act)
				writer := begin(w, m.Lock)
				w.pass(10 * time.Millisecond)
				reader := begin(w, m.RLock)
				w.pass(10 * time.Millisecond)
				writer.cancel()
				writer.fails(context.Canceled)
				began := time.Now()
				r := reader.get()
				require.Less(w, time.Since(began), 500*time.Millisecond)
				require.NoError(w, r.Unlock(w.ctx))
				require.NoError(w, reads.Unlock(w.ctx))
				w.allGone()
			})
		})
	}
}

// Nor is a try, right after a call that was cancelled, refused for the key that this one may
// have left.
func TestATryRightAfterACancelledAttemptIsNotRefusedForIt(t *testing.T) {
	for what, act := range map[string]simetcd.Action{
		"slow request": {DelayRequest: 100 * time.Millisecond},
		"slow answer":  {DelayReply: 100 * time.Millisecond},
		"lost request": {DropRequest: true},
		"lost answer":  {DropReply: true},
	} {
		t.Run(what, func(t *testing.T) {
			simulate(t, func(w *world) {
				m := NewMutex(w.session("a"), "m")
				w.next("a", simetcd.Txn, act)
				var first error
				p := begin(w, func(ctx context.Context) (*Lock, error) {
					_, first = m.Lock(ctx)
					return m.TryLock(w.ctx)
				})
				w.pass(20 * time.Millisecond)
				p.cancel()
				l := p.get()
				require.ErrorIs(w, first, context.Canceled)
				require.NoError(w, l.Unlock(w.ctx))
				w.allGone()
			})
		})
	}
}

// Deadlocks are detected by the entries. The entry of an attempt names the holds of the caller to
// which it was left.
func TestWhoTakesAnAttemptOverSaysWhatHeHolds(t *testing.T) {
	for what, act := range map[string]simetcd.Action{
		"slow request": {DelayRequest: 100 * time.Millisecond},
		"lost request": {DropRequest: true},
		"lost answer":  {DropReply: true},
	} {
		t.Run(what, func(t *testing.T) {
			simulate(t, func(w *world) {
				s := w.session("a")
				m := NewMutex(s, "m")
				stranger := w.lock(NewMutex(w.session("b"), "m"))
				x := w.lock(NewMutex(s, "x"))
				w.next("a", simetcd.Txn, act)
				first := begin(w, m.Lock)
				w.pass(time.Millisecond)
				second := begin(w, func(ctx context.Context) (*Lock, error) {
					ctx, stop := x.of.Within(ctx)
					defer stop()
					return m.Lock(ctx)
				})
				w.pass(10 * time.Millisecond)
				first.cancel()
				first.fails(context.Canceled)
				w.pass(500 * time.Millisecond)
				entries, err := m.Queue(w.ctx)
				require.NoError(w, err)
				require.Len(w, entries, 2)
				require.Equal(w, []string{x.Key()}, entries[1].Holds)
				require.NoError(w, stranger.Unlock(w.ctx))
				require.NoError(w, second.get().Unlock(w.ctx))
				require.NoError(w, x.Unlock(w.ctx))
				w.allGone()
			})
		})
	}
}

// The client's code runs in the caller's goroutine. Where it panics there, or ends that goroutine, as
// a fake of a test does that fails it, the line goes on, and the session can be closed.
func TestACallerWhoseGoroutineEndsInHisRequestLeavesTheLine(t *testing.T) {
	for what, end := range map[string]func(){"panic": func() { panic("of the client") }, "goexit": runtime.Goexit} {
		t.Run(what, func(t *testing.T) {
			simulate(t, func(w *world) {
				var ended atomic.Bool
				s := w.session("a", sessionOptionFunc(func(c *sessionConfig) {
					c.Hooks.Pace = func(context.Context, string) {
						if !ended.Swap(true) {
							end()
						}
					}
				}))
				m := NewMutex(s, "m")
				go func() {
					defer func() { _ = recover() }()
					_, _ = m.Lock(w.ctx)
				}()
				w.pass(time.Second)
				require.True(w, ended.Load())
				require.NoError(w, w.lock(m).Unlock(w.ctx))
				w.allGone()
			})
		})
	}
}

// A call that is cancelled in its first request mostly leaves no doubt: that request is found to
// have been applied, and taken back, and nothing is looked for any more.
func TestACancelledCallLeavesNoDoubtOnceItsKeyWasFound(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		m := NewMutex(s, "m")
		w.next("a", simetcd.Txn, simetcd.Action{DelayReply: 100 * time.Millisecond})
		p := begin(w, m.Lock)
		w.pass(20 * time.Millisecond)
		p.cancel()
		p.fails(context.Canceled)
		w.pass(20 * time.Millisecond)
		w.empty("m")
		inner := w.lock(NewMutex(s, "m/1"))
		require.NoError(w, inner.Unlock(w.ctx))
		began := time.Now()
		w.orphan(s)
		require.Less(w, time.Since(began), 100*time.Millisecond)
	})
}

// What is found proves nothing where it may be of an earlier request that is not answered either.
func TestAKeyOfSomebodyElseLeavesTheDoubt(t *testing.T) {
	cancelled := func(w *world, m *Mutex, after, late time.Duration) {
		w.next("a", simetcd.Txn, simetcd.Action{DelayRequest: late})
		p := begin(w, m.Lock)
		w.pass(after)
		p.cancel()
		p.fails(context.Canceled)
		w.pass(20 * time.Millisecond)
		w.empty("m")
	}
	simulate(t, func(w *world) {
		m := NewMutex(w.session("a"), "m")
		cancelled(w, m, 5*time.Millisecond, 40*time.Millisecond)
		cancelled(w, m, 30*time.Millisecond, sweeper.LateEffect+10*time.Millisecond)
		w.pass(sweeper.LateEffect)
		w.empty("m")
		w.allGone()
	})
}

// Close waits for the requests that callers make by themselves, and no longer.
func TestASessionEndsAsSoonAsItsCallersAreThrough(t *testing.T) {
	orphaned := func(w *world, s *Session) {
		began := time.Now()
		w.orphan(s)
		require.Less(w, time.Since(began), 200*time.Millisecond)
	}
	slow := simetcd.Action{DelayReply: 100 * time.Millisecond}
	for what, test := range map[string]func(w *world, s *Session){
		"a hold that is young": func(w *world, s *Session) {
			w.lock(NewMutex(s, "m"))
			began := time.Now()
			require.NoError(w, s.Close(w.ctx))
			require.Less(w, time.Since(began), 20*time.Millisecond)
		},
		"a release": func(w *world, s *Session) {
			l := w.lock(NewMutex(s, "m"))
			w.next("a", simetcd.Txn, slow)
			p := begin(w, func(ctx context.Context) (any, error) { return nil, l.Unlock(ctx) })
			w.pass(10 * time.Millisecond)
			orphaned(w, s)
			p.get()
		},
		"a try that is refused": func(w *world, s *Session) {
			w.lock(NewMutex(w.session("b"), "m"))
			w.next("a", simetcd.Txn, slow)
			p := begin(w, NewMutex(s, "m").TryLock)
			w.pass(10 * time.Millisecond)
			orphaned(w, s)
			p.fails(ErrOrphaned)
		},
	} {
		t.Run(what, func(t *testing.T) {
			simulate(t, func(w *world) { test(w, w.session("a")) })
		})
	}
}
