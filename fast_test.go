package etcdlock

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// countLines is how many local queues a session has, and how many of them are idle.
func (s *Session) countLines() (all, idle int) {
	has := s.manager.Snapshot()
	return has.Queues, has.Idle
}

// usesNothing asserts that a session has forgotten all names.
func (w *world) usesNothing(s *Session) {
	w.Helper()
	has := s.manager.Snapshot()
	require.Zero(w, has.Queues)
	require.Zero(w, has.Idle)
	require.Zero(w, has.Names)
}

// begin calls f when nothing else is under way.
func begin[T any](w *world, f func(context.Context) (T, error)) *pending[T] {
	p := start(w, f)
	w.pass(time.Microsecond)
	return p
}

func TestALockThatNobodyElseWantsNeedsNoOtherGoroutine(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		m := NewMutex(s, "m")
		synctest.Wait()
		before := len(simetcd.Goroutines())
		for range 3 {
			l := w.lock(m)
			synctest.Wait()
			require.Equal(w, before, len(simetcd.Goroutines()), "held")
			require.NoError(w, l.Unlock(w.ctx))
			synctest.Wait()
			require.Equal(w, before, len(simetcd.Goroutines()), "released")
		}
		l := w.lock(m)
		w.pass(300 * time.Millisecond)
		require.Greater(w, len(simetcd.Goroutines()), before, "it is watched over")
		require.NoError(w, l.Unlock(w.ctx))
		w.pass(time.Millisecond)
		require.Equal(w, before, len(simetcd.Goroutines()), "at rest again")
		_, resting := s.countLines()
		require.Equal(w, 1, resting)
		w.pass(2 * time.Second)
		w.usesNothing(s)
		w.allGone()
	})
}

// Lines at rest are few, however many names are locked.
func TestFewLinesRest(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		for i := range local.MaxIdle + 10 {
			require.NoError(w, w.lock(NewMutex(s, fmt.Sprintf("orders/%d", i))).Unlock(w.ctx))
			all, resting := s.countLines()
			require.LessOrEqual(w, all, local.MaxIdle)
			require.Equal(w, all, resting)
		}
		w.pass(3 * time.Second)
		w.usesNothing(s)
	})
}

// traps A3, A4, B2: a caller that gives up while its first request is in flight returns at once. The
// effect of the request is undone as soon as etcd answers, and delays no other caller.
func TestWhoGivesUpInHisFirstRequestLeavesNothing(t *testing.T) {
	for what, act := range map[string]simetcd.Action{
		"slow request": {DelayRequest: 100 * time.Millisecond},
		"slow answer":  {DelayReply: 100 * time.Millisecond},
		"lost request": {DropRequest: true},
		"lost answer":  {DropReply: true},
		"late request": {DelayRequest: 5 * time.Second},
	} {
		for _, try := range []bool{false, true} {
			for _, again := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, try %v, again %v", what, try, again), func(t *testing.T) {
					simulate(t, func(w *world) {
						m, other := NewMutex(w.session("a"), "m"), NewMutex(w.session("b"), "m")
						if again { // then it is guessed that the lock is free
							require.NoError(w, w.lock(m).Unlock(w.ctx))
						}
						lock := m.Lock
						if try {
							lock = m.TryLock
						}
						w.next("a", simetcd.Txn, act)
						began := time.Now()
						p := begin(w, lock)
						w.pass(20 * time.Millisecond)
						p.cancel()
						p.fails(context.Canceled)
						require.Less(w, time.Since(began), 25*time.Millisecond)
						w.pass(200 * time.Millisecond)
						if what != "late request" {
							w.empty("m")
						}
						l := w.lock(other)
						require.Less(w, time.Since(began), 300*time.Millisecond, "nobody is in the way")
						if what == "late request" && !try && !again { // the others are for an empty queue only
							w.pass(time.Until(began.Add(5*time.Second + 10*time.Millisecond)))
							require.Len(w, w.Keys("m/"), 2, "it has come")
						}
						w.pass(5 * time.Second)
						require.Len(w, w.Keys("m/"), 1, "it did not stand for longer than it took to come")
						require.NoError(w, l.Unlock(w.ctx))
						require.NoError(w, w.lock(m).Unlock(w.ctx))
						w.allGone()
					})
				})
			}
		}
	}
}

// The request of a caller with a short deadline is made by another goroutine and not cancelled. It is
// answered and undone, and no key is uncertain.
func TestWhoseTimeIsShortCutsNoRequestOff(t *testing.T) {
	for _, bound := range []time.Duration{100 * time.Millisecond, etcdkv.FirstBound} {
		simulate(t, func(w *world) {
			s := w.session("a")
			w.next("a", simetcd.Txn, simetcd.Action{DelayRequest: bound + 100*time.Millisecond})
			_, err := NewMutex(s, "m").Lock(w.timeout(bound))
			require.ErrorIs(w, err, context.DeadlineExceeded)
			if bound < etcdkv.FirstBound {
				synctest.Wait()
				require.Zero(w, suspected(s), "its request was cut off")
				w.pass(200 * time.Millisecond)
				w.empty("m")
				require.Zero(w, suspected(s))
			}
			w.pass(time.Second)
			w.empty("m")
			w.allGone()
		})
	}
}

// trap A3: a caller that joined while another caller made the request is served when that one gives up.
func TestWhoJoinedAnAttemptOutlivesIt(t *testing.T) {
	for _, act := range []simetcd.Action{
		{DelayRequest: 100 * time.Millisecond}, {DelayReply: 100 * time.Millisecond}, {DropRequest: true}, {DropReply: true},
		{Err: unavailable}, {ErrAfter: unavailable},
	} {
		simulate(t, func(w *world) {
			s := w.session("a")
			first, second := NewMutex(s, "m", WithOwner("first")), NewMutex(s, "m", WithOwner("second"))
			w.next("a", simetcd.Txn, act)
			p := begin(w, first.Lock)
			w.pass(time.Millisecond)
			q := begin(w, second.Lock)
			w.pass(10 * time.Millisecond)
			p.cancel()
			if _, err := p.result(); err == nil { // it was answered by then
				require.NoError(w, p.value.Unlock(w.ctx))
			}
			l := q.get()
			entries, err := second.Queue(w.ctx)
			require.NoError(w, err)
			require.Len(w, entries, 1)
			require.Equal(w, "second", entries[0].Owner)
			require.NoError(w, l.Unlock(w.ctx))
			w.allGone()
		})
	}
}

// After a wrong optimistic enter, a caller needs no more requests to wait in the queue than after none.
// The optimistic enter itself is the only additional request.
func TestAWrongGuessCostsOneRequest(t *testing.T) {
	simulate(t, func(w *world) {
		wait := func(name string, lock func(client string) func(context.Context) (func(context.Context) error, error)) {
			a, b := lock("a"), lock("b")
			hold := func(f func(context.Context) (func(context.Context) error, error)) func(context.Context) error {
				p := start(w, f)
				return p.get()
			}
			require.NoError(w, hold(a)(w.ctx))
			release := hold(b)
			var waiting *pending[func(context.Context) error]
			require.Equal(w, "2 Txn, 1 Watch", requests(w.Client("a"), func() {
				waiting = start(w, a)
				w.pass(200 * time.Millisecond)
			}), name)
			waiting.isWaiting()
			var sent string
			require.Empty(w, requests(w.Client("a"), func() {
				sent = requests(w.Client("b"), func() { require.NoError(w, release(w.ctx)) })
				release = waiting.get()
			}), "handover")
			require.Equal(w, "1 Txn", sent)
			require.NoError(w, release(w.ctx))
		}
		sessions := map[string]*Session{"a": w.session("a"), "b": w.session("b")}
		type unlock = func(context.Context) error
		mutex := func(name string, opts ...MutexOption) func(string) func(context.Context) (unlock, error) {
			return func(client string) func(context.Context) (unlock, error) {
				m := NewMutex(sessions[client], name, opts...)
				return func(ctx context.Context) (unlock, error) {
					l, err := m.Lock(ctx)
					if err != nil {
						return nil, err
					}
					return l.Unlock, nil
				}
			}
		}
		wait("mutex", mutex("m"))
		wait("election", func(client string) func(context.Context) (unlock, error) {
			e := NewElection(sessions[client], "e")
			return func(ctx context.Context) (unlock, error) {
				term, err := e.Campaign(ctx, client)
				if err != nil {
					return nil, err
				}
				return term.Resign, nil
			}
		})
		w.allGone()
	})
}

// What a process before has left stands already; to take it over is to find it and to write it.
// One of them reads what the former process has left under the name.
func TestATakeoverTakesThreeRequests(t *testing.T) {
	simulate(t, func(w *world) {
		before := w.session("before")
		w.lock(NewMutex(before, "m"))
		m := NewMutex(w.session("a", WithLease(w.orphan(before))), "m")
		require.Regexp(w, "^(1 Range, )?2 Txn, 1 TxnReadOnly$", requests(w.Client("a"), func() {
			require.NoError(w, w.lock(m).Err())
		}))
		w.allGone()
	})
}

// What is known of a queue is believed for a moment only.
func TestAGuessIsMadeSoonOrNotAtAll(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewMutex(w.session("a"), "m"), NewMutex(w.session("b"), "m")
		held := w.lock(a)
		waits := begin(w, b.Lock)
		w.pass(100 * time.Millisecond)
		w.next("a", simetcd.Txn, simetcd.Action{DelayReply: 1500 * time.Millisecond})
		require.NoError(w, held.Unlock(w.ctx))
		w.pass(time.Millisecond) // its line is at rest
		var again *pending[*Lock]
		require.Equal(w, "1 Range, 1 Txn, 1 Watch", requests(w.Client("a"), func() {
			again = start(w, a.Lock)
			w.pass(100 * time.Millisecond)
		}))
		require.NoError(w, waits.get().Unlock(w.ctx))
		require.NoError(w, again.get().Unlock(w.ctx))
		w.allGone()
	})
}

// A session that ends in the middle of an attempt, or under an unattended hold,
// takes all of that with it.
func TestASessionEndsWhileCallersHaveTheLine(t *testing.T) {
	ends := map[string]func(w *world, s *Session) error{
		"close": func(w *world, s *Session) error { return s.Close(w.ctx) },
		"orphan": func(w *world, s *Session) error {
			id, err := s.Orphan(w.ctx)
			if err == nil {
				w.RevokeLease(id)
			}
			return err
		},
	}
	for what, end := range ends {
		t.Run(what, func(t *testing.T) {
			simulate(t, func(w *world) {
				s := w.session("a")
				l := w.lock(NewMutex(s, "m"))
				w.next("a", simetcd.Txn, simetcd.Action{DelayReply: 300 * time.Millisecond})
				p := begin(w, NewMutex(s, "other").Lock)
				w.pass(10 * time.Millisecond)
				q := begin(w, NewMutex(s, "other").Lock)
				began := time.Now()
				require.NoError(w, end(w, s))
				require.Less(w, time.Since(began), 2*time.Second)
				p.fails(ErrSessionClosed)
				q.fails(ErrSessionClosed)
				require.ErrorIs(w, l.Err(), ErrSessionClosed)
				require.Error(w, context.Cause(l.Context()))
				require.ErrorIs(w, l.Unlock(w.ctx), ErrSessionClosed)
				require.Empty(w, w.Keys(""))
			})
		})
	}
}

// No goroutine watches an unattended hold, so one has to when its lease ends.
func TestCloseDoesNotWaitForAYoungHold(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		w.lock(NewMutex(s, "m"))
		began := time.Now()
		require.NoError(w, s.Close(w.ctx))
		require.Less(w, time.Since(began), 20*time.Millisecond)
	})
}

// The same while the last holder deletes the key.
func TestASessionEndsWhileAHolderLeaves(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		l := w.lock(NewMutex(s, "m"))
		w.next("a", simetcd.Txn, simetcd.Action{DelayRequest: time.Minute})
		left := begin(w, func(ctx context.Context) (struct{}, error) { return struct{}{}, l.Unlock(ctx) })
		w.pass(10 * time.Millisecond)
		require.NoError(w, s.Close(w.ctx))
		left.fails(ErrSessionClosed)
		require.Empty(w, w.Keys(""))
	})
}

// Whatever ends an unattended hold, the waiters of its local queue go on.
func TestALossOfAYoungHoldIsSeenTo(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		m := NewMutex(s, "m")
		l := w.lock(m)
		waits := begin(w, m.Lock)
		w.RevokeLease(s.Lease())
		w.pass(time.Second)
		require.ErrorIs(w, l.Err(), ErrLost)
		waits.fails(ErrLost)
		require.NoError(w, w.lock(m).Unlock(w.ctx))
		w.allGone()
	})
}

// Names may nest when only one of them is in use at a time; lines at rest are not in use.
func TestNamesAtRestMayNest(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		outer, inner := NewMutex(s, "m"), NewMutex(s, "m/1/2")
		for range 3 {
			l := w.lock(outer)
			_, err := inner.Lock(w.ctx)
			require.ErrorIs(w, err, ErrNestedName)
			require.NoError(w, l.Unlock(w.ctx))
			l = w.lock(inner)
			_, err = outer.Lock(w.ctx)
			require.ErrorIs(w, err, ErrNestedName)
			require.NoError(w, l.Unlock(w.ctx))
		}
		w.pass(3 * time.Second)
		w.usesNothing(s)
		w.allGone()
	})
}
