package etcdlock

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// maxHold is the limit of the holds of these tests, and holdMargin the margin of their sessions.
const (
	maxHold    = 5 * time.Second
	holdMargin = time.Second
)

// limitedHold is a hold with a limit, of any kind.
type limitedHold interface {
	Held
	releases() func(context.Context) error
}

type (
	limitedLock   struct{ *Lock }
	limitedWrite  struct{ *WriteLock }
	limitedRead   struct{ *ReadLock }
	limitedPermit struct{ *Permit }
	limitedSet    struct{ *LockSet }
)

func (h limitedLock) releases() func(context.Context) error   { return h.Unlock }
func (h limitedWrite) releases() func(context.Context) error  { return h.Unlock }
func (h limitedRead) releases() func(context.Context) error   { return h.Unlock }
func (h limitedPermit) releases() func(context.Context) error { return h.Release }
func (h limitedSet) releases() func(context.Context) error    { return h.Unlock }

// limits has each way to hold the name m with a limit, so that no other session can lock m.
var limits = map[string]func(w *world, s *Session) (limitedHold, error){
	"Mutex": func(w *world, s *Session) (limitedHold, error) {
		l, err := NewMutex(s, "m", WithMaxHold(maxHold)).Lock(w.ctx)
		return limitedLock{l}, err
	},
	"WriteLock": func(w *world, s *Session) (limitedHold, error) {
		l, err := NewRWMutex(s, "m", WithMaxHold(maxHold)).Lock(w.ctx)
		return limitedWrite{l}, err
	},
	"ReadLock": func(w *world, s *Session) (limitedHold, error) {
		l, err := NewRWMutex(s, "m", WithMaxHold(maxHold)).RLock(w.ctx)
		return limitedRead{l}, err
	},
	"Permit": func(w *world, s *Session) (limitedHold, error) {
		p, err := NewSemaphore(s, "m", 3, WithMaxHold(maxHold)).Acquire(w.ctx, 2)
		return limitedPermit{p}, err
	},
	"LockSet": func(w *world, s *Session) (limitedHold, error) {
		set, err := NewMultiMutex(s, []string{"m", "n"}, WithMaxHold(maxHold)).Lock(w.ctx)
		return limitedSet{set}, err
	},
	"Striped": func(w *world, s *Session) (limitedHold, error) {
		m := NewStriped(s, "m", 1, WithMaxHold(maxHold)).For("x")
		m.name = "m"
		l, err := m.Lock(w.ctx)
		return limitedLock{l}, err
	},
}

// report P14
func TestAHoldThatReachesItsLimitIsReleased(t *testing.T) {
	for name, hold := range limits {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				s := w.session("a", WithMargin(holdMargin))
				h, err := hold(w, s)
				require.NoError(w, err)
				until := time.Now().Add(maxHold)
				next := start(w, NewMutex(w.session("b"), "m").Lock)
				w.pass(time.Until(until) - time.Millisecond)
				require.NoError(w, h.Err())
				w.pass(time.Millisecond)
				cause := context.Cause(h.Context())
				require.ErrorIs(w, cause, ErrHeldTooLong)
				require.ErrorIs(w, cause, ErrLost)
				require.ErrorContains(w, cause, `"m"`)
				require.ErrorContains(w, cause, "after 5s")
				require.Equal(w, cause, h.Err())
				require.Zero(w, h.Deadline())
				require.Equal(w, "held_too_long", ErrorType(cause))
				w.pass(holdMargin - time.Millisecond)
				next.isWaiting()
				w.pass(10 * time.Millisecond)
				l := next.get()
				require.Greater(w, l.Token(), h.Token())
				for range 2 {
					err := h.releases()(w.ctx)
					require.ErrorIs(w, err, ErrHeldTooLong)
					require.NotErrorIs(w, err, ErrUnconfirmed)
				}
				require.NoError(w, l.Err(), "a late release is of no hold but its own")
				w.unlock(l.Unlock)
				require.EqualValues(w, 1, s.Stats().Released)
				require.Zero(w, s.Stats().Lost)
				require.Zero(w, s.Stats().Holds)
				w.allGone()
			})
		})
	}
}

// The work has ended in time, so no other session needs to wait for the holdMargin.
func TestAHoldThatIsReleasedAfterItsLimitIsReleasedAtOnce(t *testing.T) {
	for name, hold := range limits {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				h, err := hold(w, w.session("a", WithMargin(holdMargin)))
				require.NoError(w, err)
				next := start(w, NewMutex(w.session("b"), "m").Lock)
				<-h.Done()
				w.pass(holdMargin / 2)
				next.isWaiting()
				require.ErrorIs(w, h.releases()(w.ctx), ErrHeldTooLong)
				w.pass(time.Millisecond)
				l := next.get()
				w.pass(time.Minute)
				require.NoError(w, l.Err(), "the margin of the former hold is over")
				w.unlock(l.Unlock)
				w.allGone()
			})
		})
	}
}

func TestAHoldThatIsReleasedInTimeHasNoLimitAfterwards(t *testing.T) {
	for name, hold := range limits {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				s := w.session("a")
				h, err := hold(w, s)
				require.NoError(w, err)
				w.pass(maxHold / 2)
				require.NoError(w, h.releases()(w.ctx))
				again, err := hold(w, s)
				require.NoError(w, err)
				w.pass(maxHold - time.Millisecond)
				require.NoError(w, again.Err())
				require.ErrorIs(w, h.Err(), ErrReleased)
				require.NoError(w, again.releases()(w.ctx))
			})
		})
	}
}

// The work of the former holder may continue, and the fencing token has to tell it from the next one. A key that is kept,
// or handed over in memory, would have the same token.
func TestAfterItsLimitAHoldIsNotHandedOverInMemory(t *testing.T) {
	simulate(t, func(w *world) {
		m := NewMutex(w.session("a"), "m", WithMaxHold(maxHold), WithTimeSlice(time.Hour), WithRetention(time.Hour))
		first := w.lock(m)
		next := start(w, m.Lock)
		second := next.get()
		require.Greater(w, second.Token(), first.Token())
		w.pass(maxHold + holdMargin)
		third := w.lock(m)
		require.Greater(w, third.Token(), second.Token())
		w.unlock(third.Unlock)
	})
}

// The readers of a session share a key. One that reaches its limit takes nothing from the others.
func TestAReaderThatReachesItsLimitIsNotWaitedFor(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a", WithMargin(holdMargin))
		hangs, err := NewRWMutex(s, "m", WithMaxHold(maxHold), WithTimeSlice(time.Hour)).RLock(w.ctx)
		require.NoError(w, err)
		other, err := NewRWMutex(s, "m", WithTimeSlice(time.Hour)).RLock(w.ctx)
		require.NoError(w, err)
		require.Equal(w, hangs.Key(), other.Key())
		writer := start(w, NewRWMutex(w.session("b"), "m").Lock)
		w.pass(time.Minute)
		for range 2 { // it has been given back for its caller, and once
			require.ErrorIs(w, hangs.Unlock(w.ctx), ErrHeldTooLong)
		}
		require.NoError(w, other.Err())
		w.pass(time.Second)
		writer.isWaiting()
		w.unlock(other.Unlock)
		w.unlock(writer.get().Unlock)
		w.allGone()
	})
}

// A hold within another one would make the turn longer, again and again.
func TestAHoldWithinAnotherOneHasItsLimitToo(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a", WithMargin(holdMargin))
		outer := w.lock(NewMutex(s, "m", WithMaxHold(maxHold), WithReentry(3)))
		w.pass(3 * time.Second)
		var inner []*Lock
		for _, opts := range [][]MutexOption{{WithReentry(3)}, {WithReentry(3), WithMaxHold(time.Minute)}} {
			l, err := NewMutex(s, "m", opts...).Lock(outer.Context())
			require.NoError(w, err)
			inner = append(inner, l)
		}
		next := start(w, NewMutex(w.session("b"), "m").Lock)
		w.pass(2 * time.Second)
		for _, l := range inner {
			require.ErrorIs(w, l.Err(), ErrHeldTooLong)
		}
		next.isWaiting()
		w.pass(holdMargin + 10*time.Millisecond)
		w.unlock(next.get().Unlock)
		// The inner limit is the smaller one.
		outer = w.lock(NewMutex(s, "m", WithReentry(3)))
		short, err := NewMutex(s, "m", WithReentry(3), WithMaxHold(time.Second)).Lock(outer.Context())
		require.NoError(w, err)
		w.pass(time.Minute)
		require.ErrorIs(w, short.Err(), ErrHeldTooLong)
		require.NoError(w, outer.Err())
		w.unlock(outer.Unlock)
	})
}

func TestConversionsDoNotBeginALimitAgain(t *testing.T) {
	simulate(t, func(w *world) {
		m := NewRWMutex(w.session("a", WithMargin(holdMargin)), "m", WithMaxHold(maxHold))
		l := w.write(m)
		until := time.Now().Add(maxHold)
		w.pass(2 * time.Second)
		r := start(w, l.Downgrade).get()
		w.pass(2 * time.Second)
		again := start(w, r.Upgrade).get()
		w.pass(time.Until(until) - time.Millisecond)
		require.NoError(w, again.Err())
		w.pass(time.Millisecond)
		require.ErrorIs(w, again.Err(), ErrHeldTooLong)
		require.ErrorIs(w, l.Err(), ErrReleased)
		_, err := again.Downgrade(w.ctx)
		require.ErrorIs(w, err, ErrHeldTooLong)
		w.pass(holdMargin + 10*time.Millisecond)
		w.empty("m")
	})
	t.Run("an upgrade that waits", func(t *testing.T) {
		simulate(t, func(w *world) {
			other, err := NewRWMutex(w.session("b"), "m").RLock(w.ctx)
			require.NoError(w, err)
			r, err := NewRWMutex(w.session("a", WithMargin(holdMargin)), "m", WithMaxHold(maxHold)).RLock(w.ctx)
			require.NoError(w, err)
			p := start(w, r.Upgrade)
			writer := start(w, NewRWMutex(w.session("c"), "m").Lock)
			p.fails(ErrHeldTooLong)
			w.unlock(other.Unlock)
			w.pass(holdMargin + time.Second)
			w.unlock(writer.get().Unlock)
			w.allGone()
		})
	})
}

func TestDoSaysThatItsFunctionTookTooLong(t *testing.T) {
	simulate(t, func(w *world) {
		err := NewMutex(w.session("a"), "m", WithMaxHold(maxHold)).Do(w.ctx, func(ctx context.Context, l *Lock) error {
			<-ctx.Done()
			require.ErrorIs(w, context.Cause(ctx), ErrHeldTooLong)
			return nil
		})
		require.ErrorIs(w, err, ErrHeldTooLong)
		w.pass(10 * time.Millisecond)
		w.empty("m")
	})
}

// A release after the limit that etcd does not answer is one without confirmation, and says both.
func TestAReleaseAfterTheLimitMayBeUnconfirmed(t *testing.T) {
	simulate(t, func(w *world) {
		l := w.lock(NewMutex(w.session("a"), "m", WithMaxHold(maxHold)))
		<-l.Done()
		w.Client("a").Cut()
		err := l.Unlock(w.timeout(500 * time.Millisecond))
		require.ErrorIs(w, err, ErrUnconfirmed)
		require.ErrorIs(w, err, ErrHeldTooLong)
		w.Client("a").Heal()
	})
}

// What ends the session or the lease ends the hold that has reached its limit too.
func TestALimitIsReachedWhileTheSessionEnds(t *testing.T) {
	for name, end := range map[string]func(w *world, s *Session){
		"Close":  func(w *world, s *Session) { require.NoError(w, s.Close(w.ctx)) },
		"Orphan": func(w *world, s *Session) { w.orphan(s) },
		"a loss": func(w *world, _ *Session) { w.Client("a").Cut(); w.pass(2 * ttl); w.Client("a").Heal() },
		"an eviction": func(w *world, _ *Session) {
			for _, kv := range w.Keys("m/") {
				w.DeleteKey(string(kv.Key))
			}
		},
	} {
		for _, before := range []time.Duration{-time.Millisecond, 0, holdMargin / 2} {
			for kind, hold := range limits {
				t.Run(name+" "+kind, func(t *testing.T) {
					simulate(t, func(w *world) {
						s := w.session("a", WithMargin(holdMargin), WithLeaseFile(filepath.Join(t.TempDir(), "lease")))
						h, err := hold(w, s)
						require.NoError(w, err)
						w.pass(maxHold + before)
						end(w, s)
						w.pass(time.Minute)
						require.Error(w, h.Err())
						require.Error(w, h.releases()(w.ctx))
						st := s.Stats()
						require.Zero(w, st.Holds)
						require.LessOrEqual(w, st.Released+st.Lost, int64(1), "it is counted once")
					})
				})
			}
		}
	}
}
