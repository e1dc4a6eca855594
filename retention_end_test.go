package etcdlock

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// Callers that lock at the end of the idle time see no difference.
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
		for began := time.Now(); s.State() == StateConnected; w.pass(10 * time.Millisecond) {
			require.NotEmpty(w, w.Keys("m/"))
			require.Less(w, time.Since(began), ttl)
		}
		require.Equal(w, StateSuspended, s.State())
		w.pass(10 * time.Millisecond)
		w.empty("m")
		require.NotEqual(w, StateLost, s.State())

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
		lease := s.engine.LastLease()
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

// A lock after the end of a retention has another key and another token.
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

		// A caller of another session is noticed, and the key is not kept any more.
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
		"they break":         func(w *world) { w.CutWatches() },
		"they are cancelled": func(w *world) { w.CancelWatches("made for a test") },
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
