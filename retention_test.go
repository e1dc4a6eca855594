package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// keep locks and unlocks, so that the key is kept, and waits until it is watched.
func (w *world) keep(m *Mutex) (token int64) {
	w.Helper()
	l := w.lock(m)
	require.NoError(w, l.Unlock(w.ctx))
	w.pass(10 * roundTrip)
	require.NotNil(w, w.Get(l.Key()), "it is kept")
	return l.Token()
}

func TestAKeptKeyIsLockedAgainWithoutARequest(t *testing.T) {
	simulateEven(t, func(w *world) {
		c := w.Client("a")
		m := NewMutex(w.session("a"), "m", WithRetention(time.Hour))
		first := w.lock(m)
		require.Equal(w, "1 TxnReadOnly, 1 Watch", requests(c, func() {
			began := time.Now()
			require.NoError(t, first.Unlock(w.ended()))
			require.Equal(t, began, time.Now(), "nothing is waited for")
			w.pass(time.Second)
		}), "whoever comes is listened for from now on")
		began := time.Now()
		require.Empty(w, requests(c, func() {
			last := first
			for i := range 100 {
				acquire := m.Lock
				if i%3 == 0 {
					acquire = m.TryLock
				}
				l, err := acquire(w.ctx)
				require.NoError(t, err)
				require.NoError(t, l.Context().Err())
				require.Equal(t, first.Token(), l.Token())
				require.Equal(t, first.Key(), l.Key())
				require.ErrorIs(t, last.Unlock(w.ctx), ErrReleased)
				require.NoError(t, l.Err(), "an old handle does not release it")
				require.NoError(t, l.Unlock(w.ctx))
				require.ErrorIs(t, context.Cause(l.Context()), ErrReleased)
				last = l
			}
		}), "no request at all")
		require.Equal(w, began, time.Now())
		w.allGone()
	})
}

func TestWithoutRetentionAKeyGoesWithTheLastUnlock(t *testing.T) {
	simulate(t, func(w *world) {
		m := NewMutex(w.session("a"), "m")
		require.NoError(w, w.lock(m).Unlock(w.ctx))
		w.empty("m")
	})
}

func TestAnElectionIsNeverKept(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		term, err := NewElection(s, "m").Campaign(w.ctx, "v")
		require.NoError(w, err)
		require.NoError(w, term.Resign(w.ctx))
		w.empty("m")

		w.keep(NewMutex(s, "m", WithRetention(time.Hour), WithOwner("x")))
		term, err = NewElection(s, "m").Campaign(w.ctx, "v")
		require.NoError(w, err)
		require.Equal(w, "v", string(w.Get(term.Key()).Value))
		require.NoError(w, term.Resign(w.ctx))
		w.empty("m")
	})
}

func TestAKeptKeyIsSeenByOthersAndGivenUpForWhoLinesUp(t *testing.T) {
	simulateEven(t, func(w *world) {
		a := NewMutex(w.session("a"), "m", WithRetention(time.Hour))
		b := NewMutex(w.session("b"), "m")
		token := w.keep(a)
		for range 3 {
			_, err := b.TryLock(w.ctx)
			require.ErrorIs(w, err, ErrLocked)
			w.pass(time.Second)
		}
		entries, err := b.Queue(w.ctx)
		require.NoError(w, err)
		require.Len(w, entries, 1)
		require.Equal(w, "a", entries[0].Owner)

		came := time.Now()
		l := w.lock(b)
		t.Logf("the stranger waits for %s", inTrips(time.Since(came), 0))
		// To be there 0.5, heard of 0.5, deleted 0.5, heard of 0.5; or the look at the end
		// of the stranger's own way into the line (enter 1, watch 1, look 1).
		require.LessOrEqual(w, time.Since(came), 3*roundTrip+100*time.Microsecond)
		require.Greater(w, l.Token(), token)
		_, err = a.TryLock(w.ctx)
		require.ErrorIs(w, err, ErrLocked)
		require.NoError(w, l.Unlock(w.ctx))
		l, err = a.TryLock(w.ctx)
		require.NoError(w, err)
		require.NoError(w, l.Unlock(w.ctx))
		w.allGone()
	})
}

// However the stranger's coming and the Unlock fall together, it is noticed.
func TestAKeptKeyIsGivenUpWheneverTheStrangerCame(t *testing.T) {
	var worst time.Duration
	for offset := -6 * roundTrip; offset <= 6*roundTrip; offset += roundTrip / 10 {
		simulateEven(t, func(w *world) {
			a := NewMutex(w.session("a"), "m", WithRetention(time.Hour))
			b := NewMutex(w.session("b"), "m")
			l := w.lock(a)
			w.pass(100 * time.Millisecond)
			unlocked := time.Now().Add(20 * roundTrip)
			came := unlocked.Add(offset)
			time.AfterFunc(time.Until(unlocked), func() {
				if err := l.Unlock(w.ctx); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(time.Until(came))
			lb := w.lock(b)
			since := came
			if unlocked.After(came) {
				since = unlocked
			}
			worst = max(worst, time.Since(since))
			require.Greater(w, lb.Token(), l.Token())
			require.NoError(w, lb.Unlock(w.ctx))
			w.allGone()
		})
	}
	t.Logf("the stranger waits for at most %s", inTrips(worst, 0))
	// Free at once, it would be one; the rest is to hear of the stranger (a watch 1, a look
	// 1) or of the deletion (0.5), and the deletion itself (0.5).
	require.LessOrEqual(t, worst, 3*roundTrip+100*time.Microsecond)
}

func TestAStrangerIsNoticedAlsoWhenTheWatchIsLate(t *testing.T) {
	for what, act := range map[string]simetcd.Action{
		"the request is late":     {DelayRequest: time.Second},
		"the answer is late":      {DelayReply: time.Second},
		"the answer is very late": {DelayReply: time.Minute},
		"the request is lost":     {DropRequest: true},
		"the answer is lost":      {DropReply: true},
		"the stream breaks":       {Err: unavailable},
		"the stream breaks after": {ErrAfter: unavailable},
		"etcd refuses the watch":  {Err: rpctypes.ErrGRPCPermissionDenied},
	} {
		for _, before := range []time.Duration{-50 * time.Millisecond, 0, 500 * time.Millisecond, 2 * time.Second} {
			t.Run(fmt.Sprintf("%s, %v", what, before), func(t *testing.T) {
				simulateEven(t, func(w *world) {
					a := NewMutex(w.session("a"), "m", WithRetention(time.Hour))
					b := NewMutex(w.session("b"), "m")
					l := w.lock(a)
					w.pass(100 * time.Millisecond) // its own key is not watched yet
					if what == "etcd refuses the watch" || what == "the answer is very late" {
						w.every("a", act, simetcd.Watch)
					} else {
						w.next("a", simetcd.Watch, act)
					}
					var wait *pending[*Lock]
					if before < 0 {
						wait = start(w, b.Lock)
						w.pass(-before)
					}
					require.NoError(w, l.Unlock(w.ctx))
					came := time.Now()
					if before >= 0 {
						w.pass(before)
						came = time.Now()
						wait = start(w, b.Lock)
					}
					lb := wait.get()
					waited := wait.at.Sub(came)
					t.Logf("the stranger waits for %v", waited)
					// One try to open the watch takes three seconds at most, and each is
					// followed by a look.
					require.LessOrEqual(w, waited, 4500*time.Millisecond)
					require.Greater(w, lb.Token(), l.Token())
					w.Intercept(nil)
					require.NoError(w, lb.Unlock(w.ctx))
					w.allGone()
				})
			})
		}
	}
}

// The stranger is not starved by a session that uses its kept key all the time. To the
// wait without retention comes what it takes to hear of it: a watch, a look, and the
// critical section that is under way then.
func TestAStrangerIsNotStarvedByOneWhoKeepsItsKeyBusy(t *testing.T) {
	for _, n := range []int{1, 2, 5} {
		for _, slice := range []time.Duration{0, DefaultTimeSlice} {
			t.Run(fmt.Sprint(n, ", ", slice), func(t *testing.T) {
				const cs = time.Millisecond
				simulateEven(t, func(w *world) {
					var inside atomic.Int32
					m := NewMutex(w.session("a"), "m", WithTimeSlice(slice), WithRetention(time.Hour))
					b := w.keepBusy(n, cs, m, &inside)
					w.pass(time.Second)
					worst := w.worstWait(NewMutex(w.session("b"), "m"), 200, 40*time.Millisecond, &inside)
					turns := b.end()
					t.Logf("the stranger waits for at most %s; the others held %v times", inTrips(worst, slice+cs), turns)
					require.LessOrEqual(w, worst, slice+2*cs+3*roundTrip)
					for _, n := range turns {
						require.Positive(w, n)
					}
					w.allGone()
				})
			})
		}
	}
}

func TestAKeptKeyGoesAfterTheIdleTimeAndNotBefore(t *testing.T) {
	const idle = 5 * time.Second
	simulateEven(t, func(w *world) {
		m := NewMutex(w.session("a"), "m", WithRetention(idle))
		l := w.lock(m)
		token := l.Token()
		require.NoError(w, l.Unlock(w.ctx))
		for _, pause := range []time.Duration{idle - 1, time.Second, 4 * time.Second, idle - 1, time.Millisecond} {
			time.Sleep(pause)
			l = w.lock(m)
			require.Equal(w, token, l.Token(), "it was used in time")
			w.pass(time.Duration(token) * idle / 3 * 2) // however long it is held
			require.NoError(w, l.Err())
			require.NoError(w, l.Unlock(w.ctx))
		}
		w.pass(idle - 1)
		require.NotNil(w, w.Get(l.Key()))
		require.Equal(w, "1 Txn", requests(w.Client("a"), func() { w.pass(roundTrip) }))
		w.empty("m")
		again := w.lock(m)
		require.Greater(w, again.Token(), token)
		require.NoError(w, again.Unlock(w.ctx))
		w.pass(idle + roundTrip)
		w.empty("m")
		w.pass(time.Minute)
		s := m.session
		s.mu.Lock()
		require.Empty(w, s.lines, "and is forgotten")
		s.mu.Unlock()
		w.allGone()
	})
}

// Each mutex value has its own idle time, and the last one to unlock says what counts.
func TestTheIdleTimeIsThatOfTheMutexThatWasUnlockedLast(t *testing.T) {
	simulateEven(t, func(w *world) {
		s := w.session("a")
		long, short := NewMutex(s, "m", WithRetention(time.Minute)), NewMutex(s, "m", WithRetention(time.Second))
		none := NewMutex(s, "m")

		w.keep(long)
		require.NoError(w, w.lock(short).Unlock(w.ctx))
		w.pass(time.Second + roundTrip)
		require.Empty(w, w.Keys("m/"), "after the short time")

		w.keep(short)
		require.NoError(w, w.lock(long).Unlock(w.ctx))
		w.pass(59 * time.Second)
		require.Len(w, w.Keys("m/"), 1, "not before the long time")
		require.NoError(w, w.lock(none).Unlock(w.ctx))
		w.empty("m")
		w.allGone()
	})
}

// The instant at which the idle time ends is one like any other for those who lock.
func TestALockInTheInstantInWhichTheIdleTimeEndsIsGranted(t *testing.T) {
	for offset := -2 * roundTrip; offset <= 2*roundTrip; offset += roundTrip / 8 {
		for _, try := range []bool{false, true} {
			simulateEven(t, func(w *world) {
				m := NewMutex(w.session("a"), "m", WithRetention(time.Second))
				require.NoError(w, w.lock(m).Unlock(w.ctx))
				time.Sleep(time.Second + offset)
				acquire := m.Lock
				if try {
					acquire = m.TryLock
				}
				l, err := acquire(w.timeout(time.Second))
				require.NoError(w, err)
				w.pass(10 * time.Second)
				require.NoError(w, l.Err())
				require.NotNil(w, w.Get(l.Key()))
				require.NoError(w, l.Unlock(w.ctx))
				w.pass(2 * time.Second)
				w.empty("m")
				w.allGone()
			})
		}
	}
}

func TestAKeptKeyGoesWithTheSession(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		for i := range 20 {
			w.keep(NewMutex(s, fmt.Sprint("m", i), WithRetention(time.Hour)))
		}
		wait := start(w, NewMutex(w.session("b"), "m3").Lock)
		require.Equal(w, "1 LeaseRevoke", requests(w.Client("a"), func() { require.NoError(t, s.Close(w.ctx)) }))
		require.NoError(w, wait.get().Unlock(w.ctx))
		_, err := NewMutex(s, "m1").Lock(w.ctx)
		require.ErrorIs(w, err, ErrSessionClosed)
		w.allGone()
	})
}

func TestAKeptKeyGoesWhenRenewalsAreNotAnswered(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		m := NewMutex(s, "m", WithRetention(time.Hour))
		token := w.keep(m)
		w.pass(time.Second)
		w.every("a", simetcd.Action{DropReply: true}, simetcd.LeaseKeepAlive)
		for began := time.Now(); s.State() == Connected; w.pass(10 * time.Millisecond) {
			require.NotEmpty(w, w.Keys("m/"))
			require.Less(w, time.Since(began), ttl)
		}
		require.Equal(w, Suspended, s.State())
		w.pass(10 * time.Millisecond)
		w.empty("m")
		require.NotEqual(w, Lost, s.State())

		// What is locked now is not kept for long either: etcd may be away.
		l := w.lock(m)
		require.Greater(w, l.Token(), token)
		require.NoError(w, l.Unlock(w.ctx))
		w.pass(s.TTL()/6 + 10*time.Millisecond)
		w.empty("m")
		w.Intercept(nil)
		w.pass(ttl)
		w.allGone()
	})
}

func TestAKeptKeyIsNotTakenByOneWhoIsCutOff(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		m := NewMutex(s, "m", WithRetention(time.Hour), WithTimeSlice(time.Hour))
		token := w.keep(m)
		lease := s.lease
		w.Client("a").Cut()
		stranger := start(w, NewMutex(w.session("b"), "m").Lock)
		for {
			l, err := m.Lock(w.timeout(time.Second))
			if err != nil {
				break
			}
			require.NoError(w, l.Err())
			require.Equal(w, token, l.Token())
			require.Positive(w, lease.Remaining())
			stranger.isWaiting()
			w.pass(100 * time.Millisecond)
			_ = l.Unlock(w.timeout(100 * time.Millisecond))
		}
		require.Positive(w, lease.Remaining(), "given up before the deadline")
		l := stranger.get()
		require.LessOrEqual(w, lease.Remaining(), time.Duration(0))
		_, err := m.TryLock(w.timeout(100 * time.Millisecond))
		require.Error(w, err)
		w.Client("a").Heal()
		w.pass(ttl)
		require.NoError(w, l.Unlock(w.ctx))
		w.keep(m)
		w.allGone()
	})
}

// Whoever locks what is kept no more does so under another key, and with another token.
func TestAKeptKeyThatIsLostIsNotTaken(t *testing.T) {
	for what, lose := range map[string]func(w *world, s *Session, key string){
		"deleted":                      func(w *world, _ *Session, key string) { w.DeleteKey(key) },
		"revoked":                      func(w *world, s *Session, _ string) { w.RevokeLease(s.Lease()) },
		"deleted while watches break":  func(w *world, _ *Session, key string) { w.CutWatches(); w.DeleteKey(key) },
		"deleted before watches break": func(w *world, _ *Session, key string) { w.DeleteKey(key); w.CutWatches() },
		"deleted while watches are cancelled": func(w *world, _ *Session, key string) {
			w.CancelWatches("made for a test")
			w.DeleteKey(key)
		},
		"deleted, and compacted": func(w *world, _ *Session, key string) {
			w.CutWatches()
			w.DeleteKey(key)
			w.PutKey("other", "", 0)
			w.Compact(0)
			w.DeleteKey("other")
		},
		"deleted by a reset": func(w *world, _ *Session, key string) { w.Client("a").Reset(); w.DeleteKey(key) },
	} {
		t.Run(what, func(t *testing.T) {
			simulateEven(t, func(w *world) {
				s, b := w.session("a"), NewMutex(w.session("b"), "m")
				m := NewMutex(s, "m", WithRetention(time.Hour))
				token := w.keep(m)
				lose(w, s, string(w.Keys("m/")[0].Key))
				w.pass(200 * time.Millisecond)
				w.empty("m")
				lb := w.lock(b)
				require.Greater(w, lb.Token(), token)
				wait := start(w, m.Lock)
				w.pass(time.Second)
				wait.isWaiting()
				require.NoError(w, lb.Unlock(w.ctx))
				la := wait.get()
				require.Greater(w, la.Token(), lb.Token())
				require.NoError(w, la.Unlock(w.ctx))
				w.allGone()
			})
		})
	}
}

// At any instant around the deletion: what is granted is either new, or told to be lost
// as soon as a watch and a question for the cause can tell.
func TestALockAroundTheLossOfAKeptKeyIsNewOrSoonToldToBeLost(t *testing.T) {
	for _, revoked := range []bool{false, true} {
		for after := time.Duration(0); after <= 4*roundTrip; after += roundTrip / 10 {
			simulateEven(t, func(w *world) {
				s := w.session("a")
				m := NewMutex(s, "m", WithRetention(time.Hour))
				token := w.keep(m)
				lost := time.Now()
				cause := ErrEvicted
				if revoked {
					cause = ErrRevoked
					w.RevokeLease(s.Lease())
				} else {
					w.DeleteKey(string(w.Keys("m/")[0].Key))
				}
				w.pass(after)
				l, err := m.Lock(w.timeout(time.Minute))
				switch {
				case err != nil:
					require.ErrorIs(w, err, cause)
				case l.Token() == token:
					<-l.Done()
					require.ErrorIs(w, l.Err(), cause)
					require.LessOrEqual(w, time.Since(lost), 2*roundTrip)
				default:
					require.Greater(w, l.Token(), token)
					w.pass(time.Second)
					require.NoError(w, l.Err())
					require.NotNil(w, w.Get(l.Key()))
					require.NoError(w, l.Unlock(w.ctx))
				}
				w.allGone()
			})
		}
	}
}

func TestAKeptKeyKnownToBeGoneIsNotTaken(t *testing.T) {
	simulateEven(t, func(w *world) {
		m := NewMutex(w.session("a"), "m", WithRetention(time.Hour))
		token := w.keep(m)
		w.every("a", simetcd.Action{DelayReply: 400 * time.Millisecond}, simetcd.LeaseKeepAlive)
		w.DeleteKey(string(w.Keys("m/")[0].Key))
		lb := w.lock(NewMutex(w.session("b"), "m"))
		w.pass(100 * time.Millisecond)
		wait := start(w, m.Lock)
		w.pass(10 * time.Millisecond)
		select {
		case <-wait.done:
			require.ErrorIs(w, wait.err, ErrLost, "granted while a stranger holds, with the token %d after %d", wait.value.Token(), lb.Token())
		default:
		}
		w.Intercept(nil)
		require.NoError(w, lb.Unlock(w.ctx))
		if l, err := wait.result(); err == nil {
			require.Greater(w, l.Token(), token)
			require.NoError(w, l.Unlock(w.ctx))
		}
		w.allGone()
	})
}

// trap A21: the slow look finds it.
func TestTheLossOfAKeptKeyThatNoWatchToldIsFoundLater(t *testing.T) {
	simulate(t, func(w *world) {
		m := NewMutex(w.session("a"), "m", WithRetention(time.Hour))
		token := w.keep(m)
		key := string(w.Keys("m/")[0].Key)
		w.MissDelete(key)
		w.DeleteKey(key)
		l := w.lock(m)
		lost := time.Now()
		select {
		case <-l.Done():
		case <-time.After(2 * time.Minute):
			require.FailNow(w, "never found")
		}
		t.Logf("found after %v", time.Since(lost))
		require.ErrorIs(w, l.Err(), ErrEvicted)
		require.Greater(w, w.lock(m).Token(), token)
		w.allGone()

		// A stranger who comes is heard of, and then it is not kept any more.
		m = NewMutex(w.session("a"), "m", WithRetention(time.Hour))
		w.keep(m)
		key = string(w.Keys("m/")[0].Key)
		w.MissDelete(key)
		w.DeleteKey(key)
		lb := w.lock(NewMutex(w.session("b"), "m"))
		w.pass(100 * time.Millisecond)
		_, err := m.TryLock(w.ctx)
		require.ErrorIs(w, err, ErrLocked)
		require.NoError(w, lb.Unlock(w.ctx))
		w.allGone()
	})
}

// Faults of the watches cost neither the kept key nor the stranger.
func TestAKeptKeyOutlivesItsWatches(t *testing.T) {
	for what, fault := range map[string]func(w *world){
		"they break":        func(w *world) { w.CutWatches() },
		"they are canceled": func(w *world) { w.CancelWatches("made for a test") },
		"compaction": func(w *world) {
			w.CutWatches()
			w.PutKey("other", "", 0)
			w.DeleteKey("other")
			w.Compact(0)
		},
		"a new leader": func(w *world) { w.NewLeader() },
		"a reset":      func(w *world) { w.Client("a").Reset() },
		"etcd restarts": func(w *world) {
			w.Stop()
			w.pass(500 * time.Millisecond)
			w.Start()
		},
	} {
		for after := time.Duration(0); after <= 60*time.Millisecond; after += 3 * time.Millisecond {
			t.Run(fmt.Sprint(what, ", ", after), func(t *testing.T) {
				simulateEven(t, func(w *world) {
					m := NewMutex(w.session("a"), "m", WithRetention(time.Hour))
					token := w.keep(m)
					for range 3 {
						fault(w)
						w.pass(200 * time.Millisecond)
						l := w.lock(m)
						require.Equal(w, token, l.Token())
						require.NoError(w, l.Unlock(w.ctx))
					}
					fault(w)
					w.pass(after)
					came := time.Now()
					lb := w.lock(NewMutex(w.session("b"), "m"))
					require.LessOrEqual(w, time.Since(came), 300*time.Millisecond)
					require.NoError(w, lb.Unlock(w.ctx))
					w.DeleteKey("other")
					w.allGone()
				})
			})
		}
	}
}

func TestAnotherOwnerDoesNotTakeTheKeptKeyAsItIs(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		x := NewMutex(s, "m", WithRetention(time.Hour), WithOwner("x"))
		y := NewMutex(s, "m", WithRetention(time.Hour), WithOwner("y"))
		token := w.keep(x)
		for i, m := range []*Mutex{y, x, y, x} {
			acquire := m.Lock
			if i > 1 {
				acquire = m.TryLock
			}
			l, err := acquire(w.ctx)
			require.NoError(w, err)
			require.Greater(w, l.Token(), token)
			token = l.Token()
			entries, err := m.Queue(w.ctx)
			require.NoError(w, err)
			require.Equal(w, m.cfg.owner, entries[0].Owner)
			require.NoError(w, l.Unlock(w.ctx))
		}
		w.allGone()
	})
}

func TestAWaiterWhoGivesUpInTheInstantOfTheUnlockLeavesTheKeyKept(t *testing.T) {
	simulate(t, func(w *world) {
		m := NewMutex(w.session("a"), "m", WithRetention(time.Second), WithTimeSlice(time.Hour))
		for range 200 {
			held := w.lock(m)
			wait := start(w, m.Lock)
			wait.isWaiting()
			var both sync.WaitGroup
			both.Go(wait.cancel)
			both.Go(func() {
				if err := held.Unlock(w.ctx); err != nil {
					t.Error(err)
				}
			})
			both.Wait()
			if l, err := wait.result(); err == nil {
				require.NoError(w, l.Unlock(w.ctx))
			}
			synctest.Wait()
			l, err := m.TryLock(w.ctx)
			require.NoError(w, err, "nobody holds")
			require.NoError(w, l.Unlock(w.ctx))
		}
		w.pass(2 * time.Second)
		w.empty("m")
		w.allGone()
	})
}

// Two processes that lock a and b in opposite order get into each other's way, as
// with any lock, until one gives up. What they merely keep must never be in the way.
func TestKeptKeysDoNotMakeADeadlock(t *testing.T) {
	for seed := range uint64(10) {
		simulateWith(t, simetcd.Config{Seed: seed}, func(w *world) {
			var both sync.WaitGroup
			var inside [2]atomic.Int32
			var longest time.Duration
			for i := range 2 {
				s := w.session(fmt.Sprint("client-", i))
				names := []string{"a", "b"}
				if i == 1 {
					slices.Reverse(names)
				}
				var mutexes []*Mutex
				for _, name := range names {
					mutexes = append(mutexes, NewMutex(s, name, WithRetention(time.Hour), WithTimeSlice(time.Hour)))
				}
				r := rand.New(rand.NewPCG(seed, uint64(i)))
				both.Go(func() {
					for range 20 {
						for came := time.Now(); ; {
							if w.lockBoth(mutexes, r, &inside) {
								if i == 0 {
									longest = max(longest, time.Since(came))
								}
								break
							}
							time.Sleep(time.Duration(r.Int64N(int64(50 * time.Millisecond))))
							if time.Since(came) > time.Minute {
								t.Errorf("seed %d: client %d has not got both for a minute", seed, i)
								return
							}
						}
					}
				})
			}
			both.Wait()
			t.Logf("both after at most %v", longest)
			w.allGone()
		})
	}
}

// lockBoth locks two mutexes, waits for the second one only for a while, and tells
// whether it has had both.
func (w *world) lockBoth(mutexes []*Mutex, r *rand.Rand, inside *[2]atomic.Int32) bool {
	first, err := mutexes[0].Lock(w.ctx)
	if err != nil {
		w.Error(err)
		return true
	}
	defer func() {
		if err := first.Unlock(w.ctx); err != nil {
			w.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(w.ctx, time.Duration(r.Int64N(int64(100*time.Millisecond))))
	defer cancel()
	second, err := mutexes[1].TryLock(ctx)
	if errors.Is(err, ErrLocked) {
		second, err = mutexes[1].Lock(ctx)
	}
	if err != nil {
		return false
	}
	for i := range inside {
		if inside[i].Add(1) != 1 {
			w.Error("two hold")
		}
	}
	time.Sleep(time.Millisecond)
	for i := range inside {
		inside[i].Add(-1)
	}
	if err := second.Unlock(w.ctx); err != nil {
		w.Error(err)
	}
	return true
}

// As before, but what each keeps at the start is what the other needs: with Lock
// alone, and nobody gives up.
func TestAKeptKeyIsNoReasonToWaitForEver(t *testing.T) {
	simulateEven(t, func(w *world) {
		sa, sb := w.session("a"), w.session("b")
		mutex := func(s *Session, name string) *Mutex {
			return NewMutex(s, name, WithRetention(time.Hour), WithTimeSlice(time.Hour))
		}
		w.keep(mutex(sa, "1"))
		w.keep(mutex(sb, "2"))
		crosswise := func(s *Session, name string) *pending[*Lock] { return start(w, mutex(s, name).Lock) }
		came := time.Now()
		b1, a2 := crosswise(sb, "1"), crosswise(sa, "2")
		l1, l2 := b1.get(), a2.get()
		require.LessOrEqual(w, b1.at.Sub(came), 4*roundTrip)
		require.LessOrEqual(w, a2.at.Sub(came), 4*roundTrip)
		require.NoError(w, l1.Unlock(w.ctx))
		require.NoError(w, l2.Unlock(w.ctx))
		w.allGone()
	})
}

// Whatever goes on in the instant in which the session ends, or the key: nothing of it
// stays, in etcd or in the process.
func TestAnEndAroundTheUnlockLeavesNothing(t *testing.T) {
	for what, end := range map[string]func(w *world, s *Session, key string){
		"closed":   func(w *world, s *Session, _ string) { require.NoError(w, s.Close(w.timeout(time.Minute))) },
		"orphaned": func(w *world, s *Session, _ string) { w.RevokeLease(w.orphan(s)) },
		"revoked":  func(w *world, s *Session, _ string) { w.RevokeLease(s.Lease()) },
		"deleted":  func(w *world, _ *Session, key string) { w.DeleteKey(key) },
	} {
		for offset := -roundTrip; offset <= 4*roundTrip; offset += roundTrip / 10 {
			t.Run(fmt.Sprint(what, ", ", offset), func(t *testing.T) {
				simulateEven(t, func(w *world) {
					s, b := w.session("a"), NewMutex(w.session("b"), "m")
					m := NewMutex(s, "m", WithRetention(time.Hour))
					l := w.lock(m)
					unlocked := time.Now().Add(roundTrip)
					time.AfterFunc(roundTrip, func() { _ = l.Unlock(w.ctx) })
					time.Sleep(time.Until(unlocked.Add(offset)))
					end(w, s, l.Key())
					w.pass(500 * time.Millisecond)
					w.empty("m")
					lb := w.lock(b)
					require.Greater(w, lb.Token(), l.Token())
					if s.Err() == nil {
						try := start(w, m.Lock)
						w.pass(100 * time.Millisecond)
						try.isWaiting()
						try.cancel()
						try.fails(context.Canceled)
					}
					require.NoError(w, lb.Unlock(w.ctx))
					w.pass(100 * time.Millisecond)
					w.empty("m")
				})
			})
		}
	}
}

// A Locker is used as a sync.Mutex is: often, and from many goroutines.
func TestALockerHandsOverInMemoryAndKeeps(t *testing.T) {
	simulateEven(t, func(w *world) {
		m := NewMutex(w.session("a"), "m", WithTimeSlice(time.Hour), WithRetention(time.Second))
		w.keep(m)
		n := 0
		require.Empty(w, requests(w.Client("a"), func() {
			var all sync.WaitGroup
			locker := m.Locker()
			for range 10 {
				all.Go(func() {
					for range 100 {
						locker.Lock()
						n++
						locker.Unlock()
					}
				})
			}
			all.Wait()
		}))
		require.Equal(w, 1000, n)
		w.pass(time.Second + roundTrip)
		w.empty("m")
		w.allGone()
	})
}

// The limit that WithRetention tells of: nobody hears of a TryLock that is refused. A
// Lock gets at once what any number of them did not.
func TestAKeptKeyIsNotGivenUpForATryLock(t *testing.T) {
	simulateEven(t, func(w *world) {
		a := NewMutex(w.session("a"), "m", WithRetention(10*time.Second))
		b := NewMutex(w.session("b"), "m")
		for range 100 {
			w.keep(a)
			_, err := b.TryLock(w.ctx)
			require.ErrorIs(w, err, ErrLocked)
			w.pass(time.Second)
		}
		came := time.Now()
		require.NoError(w, w.lock(b).Unlock(w.ctx))
		require.LessOrEqual(w, time.Since(came), 5*roundTrip)

		w.keep(a)
		w.pass(10 * time.Second)
		l, err := b.TryLock(w.ctx)
		require.NoError(w, err, "after the idle time")
		require.NoError(w, l.Unlock(w.ctx))
		w.allGone()
	})
}
