package etcdlock

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
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
		}), "later entries are watched for from now on")
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
	// Free at once, it would be one; the rest is to hear of the stranger (a watch 1, a look
	// 1) or of the deletion (0.5), and the deletion itself (0.5).
	const bound = 3*roundTrip + 100*time.Microsecond
	wait := func(offset time.Duration) (waited time.Duration) {
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
			waited = time.Since(since)
			require.Greater(w, lb.Token(), l.Token())
			require.NoError(w, lb.Unlock(w.ctx))
			w.allGone()
		})
		return waited
	}
	var worst time.Duration
	for offset := -6 * roundTrip; offset <= 6*roundTrip; offset += roundTrip / 10 {
		waited := wait(offset)
		for tries := 1; waited > bound && tries < 3; tries++ { // chance orders what falls on one instant
			waited = min(waited, wait(offset))
		}
		worst = max(worst, waited)
	}
	t.Logf("the stranger waits for at most %s", inTrips(worst, 0))
	require.LessOrEqual(t, worst, bound)
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
		require.Zero(w, s.manager.Snapshot().Queues, "and is forgotten")
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
