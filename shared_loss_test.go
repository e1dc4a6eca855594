package etcdlock

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/sweeper"
)

// What ends a session's lease or key ends every hold that shares it, with the reason, and
// lets the next one in.
func TestALossEndsSharedHoldsAndPermits(t *testing.T) {
	cases := map[string]struct {
		end  func(w *world, s *Session, key string)
		told error
	}{
		"eviction": {func(w *world, _ *Session, key string) { w.DeleteKey(key) }, ErrEvicted},
		"revoked":  {func(w *world, s *Session, _ string) { w.RevokeLease(s.Lease()) }, ErrRevoked},
		"expired":  {func(w *world, _ *Session, _ string) { w.Client("a").Cut() }, ErrExpired}, // trap D1
		"closed":   {func(w *world, s *Session, _ string) { require.NoError(w, s.Close(w.ctx)) }, ErrSessionClosed},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				s, other := w.session("a"), w.session("b")
				m := NewRWMutex(s, "m")
				r1, r2 := w.read(m), w.read(m)
				p := w.acquire(NewSemaphore(s, "s", 2), 1)
				r1.Done() // its own context, made before
				writer, all := start(w, NewRWMutex(other, "m").Lock), start(w, NewSemaphore(other, "s", 2).permits(2))
				w.pass(time.Second)
				test.end(w, s, r1.Key())
				if name == "eviction" {
					w.DeleteKey(p.Key())
				}
				require.NoError(w, writer.get().Err())
				for _, h := range []hold{r1.hold, r2.hold, p.hold} {
					if name == "eviction" || name == "revoked" {
						w.pass(2 * time.Second) // told as fast as a watch tells it
					}
					require.ErrorIs(w, h.Err(), test.told)
					require.ErrorIs(w, h.release(w.ctx), test.told)
					select {
					case <-h.Done():
					default:
						require.FailNow(w, "its context has not ended")
					}
				}
				all.get()
				w.Client("a").Heal()
			})
		})
	}
}

func TestOrphanLeavesSharedHoldsAndPermitsToASuccessor(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		r := w.read(NewRWMutex(s, "m"))
		p := w.acquire(NewSemaphore(s, "s", 3), 2)
		waiting := start(w, NewSemaphore(s, "s", 3).permits(3))
		w.pass(time.Second)
		id := w.orphan(s)
		waiting.fails(ErrOrphaned)
		require.ErrorIs(w, r.Err(), ErrOrphaned)
		require.ErrorIs(w, p.Err(), ErrOrphaned)
		require.Len(w, w.Keys(""), 2)

		next := w.session("next", WithLease(id))
		r2, p2 := w.read(NewRWMutex(next, "m")), w.acquire(NewSemaphore(next, "s", 3), 2)
		require.Equal(w, []string{r.Key(), p.Key()}, []string{r2.Key(), p2.Key()})
		require.Greater(w, r2.Token(), r.Token())
		require.Greater(w, p2.Token(), p.Token())
		w.unlock(r2.Unlock)
		w.unlock(p2.Release)
		w.allGone()
	})
}

// A key that is taken over and shares must not become one that does not, as others may
// have gone in beside it.
func TestASuccessorWantsAnotherKindOfHold(t *testing.T) {
	simulate(t, func(w *world) {
		s, b := w.session("a"), w.session("b")
		r := w.read(NewRWMutex(s, "m"))
		beside := w.read(NewRWMutex(b, "m"))
		id := w.orphan(s)
		next := w.session("next", WithLease(id))
		p := start(w, NewSemaphore(next, "m", 3).permits(1)) // in the slot of the reader
		w.pass(time.Second)
		p.isWaiting()
		require.NotEqual(w, r.CreateRevision(), w.Get(r.Key()).CreateRevision, "it has entered again")
		w.unlock(beside.Unlock)
		w.unlock(p.get().Release)
		w.allGone()
	})
}

// Every kind of lock on one name excludes every other, and etcd's own mutex too.
func TestAllKindsOnOneName(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		kinds := map[string]func() (func() error, error){
			"mutex": func() (func() error, error) {
				l, err := NewMutex(s, "m").TryLock(w.ctx)
				return func() error { return l.Unlock(w.ctx) }, err
			},
			"reader": func() (func() error, error) {
				l, err := NewRWMutex(s, "m").TryRLock(w.ctx)
				return func() error { return l.Unlock(w.ctx) }, err
			},
			"writer": func() (func() error, error) {
				l, err := NewRWMutex(s, "m").TryLock(w.ctx)
				return func() error { return l.Unlock(w.ctx) }, err
			},
			"permit": func() (func() error, error) {
				p, err := NewSemaphore(s, "m", 2).TryAcquire(w.ctx, 1)
				return func() error { return p.Release(w.ctx) }, err
			},
		}
		shares := map[string]bool{"reader": true, "permit": true}
		c := w.Client("cc")
		ccs, err := concurrency.NewSession(c.Client, concurrency.WithContext(w.ctx))
		require.NoError(w, err)
		defer ccs.Close()
		theirs := concurrency.NewMutex(ccs, "m")
		for held, hold := range kinds {
			release, err := hold()
			require.NoError(w, err, held)
			require.ErrorIs(w, theirs.TryLock(w.ctx), concurrency.ErrLocked, held)
			for tried, try := range kinds {
				also, err := try()
				if held == tried && shares[held] {
					require.NoError(w, err, held)
					require.NoError(w, also())
					continue
				}
				require.ErrorIs(w, err, ErrLocked, "%s beside %s", tried, held)
			}
			term, err := NewElection(s, "m").Campaign(w.timeout(time.Second), "x")
			require.Error(w, err, "%s: %v", held, term)
			require.NoError(w, release())
			require.NoError(w, theirs.TryLock(w.ctx), held)
			for tried, try := range kinds {
				_, err := try()
				require.ErrorIs(w, err, ErrLocked, "%s beside etcd's own", tried)
			}
			require.NoError(w, theirs.Unlock(w.ctx))
		}
		term, err := NewElection(w.session("leader"), "m").Campaign(w.ctx, `{"mode":"shared"}`) // a proposal, and no reader's key
		require.NoError(w, err)
		for tried, try := range kinds {
			_, err := try()
			require.ErrorIs(w, err, ErrLocked, "%s beside a leader", tried)
		}
		require.NoError(w, term.Resign(w.ctx))
	})
}

// Whatever does not say clearly that it shares wants everything.
func TestHostileValuesAreWaitedFor(t *testing.T) {
	since := `,"since":"2026-01-01T00:00:00Z"`
	for _, value := range []string{
		"", "{", `{"mode":"shared"}`, `{"mode":"SHARE"` + since + `}`, `{"mode":7` + since + `}`,
		`{"mode":"counted"` + since + `}`, `{"mode":"counted","permits":-5,"limit":3` + since + `}`,
		`{"mode":"counted","permits":9223372036854775807,"limit":3` + since + `}`,
		`{"mode":"counted","permits":1,"limit":-3` + since + `}`,
		`{"mode":"counted","permits":1e30,"limit":3` + since + `}`,
	} {
		simulate(t, func(w *world) {
			s := w.session("a")
			w.PutKey("m/1", value, clientv3.NoLease)
			w.PutKey("m/2", value, clientv3.NoLease)
			_, err := NewRWMutex(s, "m").TryRLock(w.ctx)
			require.ErrorIs(w, err, ErrLocked, value)
			_, err = NewSemaphore(s, "m", 3).TryAcquire(w.ctx, 1)
			require.ErrorIs(w, err, ErrLocked, value)
			p := start(w, NewSemaphore(s, "m", 3).permits(1))
			w.pass(time.Minute)
			p.isWaiting()
			w.DeleteKey("m/1")
			w.DeleteKey("m/2")
			p.get()
			w.allGone()
		})
	}
	simulate(t, func(w *world) { // more than any sum of int
		s := w.session("a")
		for _, key := range []string{"m/1", "m/2", "m/3"} {
			w.PutKey(key, `{"mode":"counted","permits":2147483647,"limit":2147483647`+since+`}`, clientv3.NoLease)
		}
		_, err := NewSemaphore(s, "m", queueMost).TryAcquire(w.ctx, 1)
		require.ErrorIs(w, err, ErrLocked)
		for _, kv := range w.Keys("m/") {
			w.DeleteKey(string(kv.Key))
		}
		w.allGone()
	})
}

const queueMost = 1<<31 - 1

// trap A14, where an entry of the other name would be one to share with.
func TestNestedNamesOfSharedLocks(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := w.session("a"), w.session("b")
		r := w.read(NewRWMutex(a, "m/x"))
		p := w.acquire(NewSemaphore(a, "s/x", 2), 1)
		for _, err := range []error{
			errOf(NewRWMutex(b, "m").RLock(w.timeout(time.Minute))),
			errOf(NewRWMutex(b, "m").TryRLock(w.ctx)),
			errOf(NewRWMutex(b, "m").Lock(w.timeout(time.Minute))),
			errOf(NewRWMutex(a, "m").RLock(w.timeout(time.Minute))),
			errOf(NewSemaphore(b, "s", 2).Acquire(w.timeout(time.Minute), 1)),
			errOf(NewSemaphore(b, "s", 2).TryAcquire(w.ctx, 1)),
		} {
			require.ErrorIs(w, err, ErrNestedName)
		}
		w.unlock(r.Unlock)
		w.unlock(p.Release)
		w.empty("m")
		w.empty("s")
		w.allGone()
	})
}

// A reader is told of the name inside as soon as it enters, and not when the writer has left.
func TestNestedNamesAreToldWhileOthersHold(t *testing.T) {
	simulate(t, func(w *world) {
		a, b, c := w.session("a"), w.session("b"), w.session("c")
		l := w.write(NewRWMutex(c, "m"))
		r := w.read(NewRWMutex(a, "m/x"))
		require.ErrorIs(w, errOf(NewRWMutex(b, "m").RLock(w.timeout(time.Minute))), ErrNestedName)
		w.unlock(l.Unlock)
		w.unlock(r.Unlock)
		w.empty("m")
		w.allGone()
	})
}

func errOf[T any](_ T, err error) error { return err }

// traps A7, D2, D3: waits go on over compactions, lost watches and errors of them, and do not
// take them for the event.
func TestSharedWaitsGoOnWhateverHappensToTheirWatches(t *testing.T) {
	simulate(t, func(w *world) {
		a, b, c := w.session("a"), w.session("b"), w.session("c")
		l := w.write(NewRWMutex(a, "m"))
		p := w.acquire(NewSemaphore(a, "s", 2), 2)
		reader, permit := start(w, NewRWMutex(b, "m").RLock), start(w, NewSemaphore(c, "s", 2).permits(1))
		w.pass(time.Second)
		for range 5 {
			w.Compact(0)
			w.CancelWatches("etcdserver: mvcc: required revision has been compacted")
			w.pass(time.Second)
			w.CutWatches()
			w.NewLeader()
			w.pass(time.Second)
			w.Stop()
			w.pass(time.Second)
			w.Start()
			w.pass(2 * time.Second)
			reader.isWaiting()
			permit.isWaiting()
		}
		w.MissDelete(l.Key())
		w.MissDelete(p.Key()) // trap A21
		w.unlock(l.Unlock)
		w.unlock(p.Release)
		r := reader.get()
		permit.get()
		c0 := w.Client("b")
		w.CancelWatches("etcdserver: mvcc: required revision has been compacted")
		require.LessOrEqual(w, len(requests(c0, func() { w.pass(2 * time.Second) })), 60, "it does not poll")
		w.unlock(r.Unlock)
		w.allGone()
	})
}

// A request that got no answer can take effect when its key is used for something else.
func TestALatePhantomOfAnotherKind(t *testing.T) {
	for _, delay := range []time.Duration{time.Second, 3500 * time.Millisecond, 5 * time.Second, 9 * time.Second} {
		simulate(t, func(w *world) {
			s, b := w.session("a"), w.session("b")
			rw, sem := NewRWMutex(s, "m"), NewSemaphore(s, "m", 3)
			w.first(4, "a", simetcd.Txn, simetcd.Action{DelayRequest: delay})
			reader := start(w, rw.RLock)
			w.pass(500 * time.Millisecond)
			reader.cancel()
			p := start(w, sem.permits(2))
			w.pass(500 * time.Millisecond)
			p.cancel()
			if q, err := p.result(); err == nil {
				w.unlock(q.Release)
			} else if !errors.Is(err, ErrEvicted) {
				require.Error(w, err)
			}
			hold := start(w, rw.RLock).get()
			w.pass(2 * time.Second)
			require.NoError(w, hold.Err())
			_, err := NewSemaphore(b, "m", 3).TryAcquire(w.ctx, 1)
			require.ErrorIs(w, err, ErrLocked)
			w.unlock(hold.Unlock)
			l := start(w, NewRWMutex(b, "m").Lock).get()
			w.unlock(l.Unlock)
			w.pass(30 * time.Second)
			w.empty("m")
			w.allGone()
		})
	}
}

// What is left of an entry that was given up, and comes late, is in the way of the same
// session too: it is cleared away while others of it wait.
func TestALatePhantomDoesNotBlockItsOwnSession(t *testing.T) {
	for _, writer := range []bool{false, true} {
		simulate(t, func(w *world) {
			s := w.session("a")
			m := NewRWMutex(s, "m")
			w.next("a", simetcd.Txn, simetcd.Action{DelayRequest: 4 * time.Second})
			lock, other := pendingLock(m.Lock), pendingLock(m.RLock)
			if !writer {
				lock, other = other, lock
			}
			given := start(w, lock)
			w.pass(time.Second)
			given.cancel()
			_, err := given.result()
			require.Error(w, err)
			// The second try has been through, and is taken back; then the first has arrived.
			w.pass(3*time.Second + 10*time.Millisecond)
			require.Len(w, w.Keys("m/"), 1)
			began := time.Now()
			release := start(w, other).get()
			require.Less(w, time.Since(began), 2*sweeper.LateEffect)
			w.unlock(release)
			w.pass(time.Minute)
			w.empty("m")
			w.allGone()
		})
	}
}

// pendingLock makes one function of Lock and RLock.
func pendingLock[L interface{ Unlock(context.Context) error }](lock func(context.Context) (L, error)) func(context.Context) (func(context.Context) error, error) {
	return func(ctx context.Context) (func(context.Context) error, error) {
		l, err := lock(ctx)
		if err != nil {
			return nil, err
		}
		return l.Unlock, nil
	}
}
