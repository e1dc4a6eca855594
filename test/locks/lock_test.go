package locks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/test/internal/cluster"
)

// trap A1, A18, A19
func TestSessionsOfSeveralClientsExcludeEachOtherAndTheirTokensGrow(t *testing.T) {
	f := newFixture(t)
	f.Put("counter", "0")
	f.Put("noise", "0")
	var (
		h       cluster.History
		workers []func() error
		rounds  = 5
	)
	for range 3 {
		c := f.Client()
		for range 2 {
			s := f.Session(c, cluster.LongTTL)
			for range 2 { // goroutines
				workers = append(workers, func() error {
					m := etcdlock.NewMutex(s, "lock")
					for range rounds {
						err := m.Do(f.Ctx(), func(ctx context.Context, l *etcdlock.Lock) error {
							defer h.Begin(l.Err, s, l.Token())()
							return cluster.Raise(ctx, c, "counter")
						})
						if err != nil {
							return err
						}
						// Foreign writes move the store's revision between two holds.
						if _, err := c.Put(f.Ctx(), "noise", "1"); err != nil {
							return err
						}
					}
					return nil
				})
			}
		}
	}
	cluster.All(t, workers...)
	h.AssertExclusive(t)
	require.Equal(t, strconv.Itoa(len(workers)*rounds), f.Get("counter"))
	require.Empty(t, f.Keys("lock"))
}

func TestSessionsAreServedInTheOrderOfTheirArrival(t *testing.T) {
	f := newFixture(t)
	first, err := etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock").Lock(f.Ctx())
	require.NoError(t, err)

	served := make(chan int, 5)
	done := make(chan error, 5)
	for i := range 5 {
		m := etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock")
		go func() {
			done <- m.Do(f.Ctx(), func(context.Context, *etcdlock.Lock) error {
				served <- i
				return nil
			})
		}()
		f.WaitForKeys("lock", i+2)
	}
	cluster.Release(t, first)
	for i := range 5 {
		require.Equal(t, i, cluster.Receive(t, served, "the next in line"))
		require.NoError(t, cluster.Receive(t, done, "its end"))
	}
}

// trap A1, A2
func TestGoroutinesOfOneSessionExcludeEachOtherInTheirOrder(t *testing.T) {
	f := newFixture(t)
	s := f.Session(f.Client(), cluster.LongTTL)
	first, err := etcdlock.NewMutex(s, "lock").Lock(f.Ctx())
	require.NoError(t, err)

	var (
		inside atomic.Int32
		mu     sync.Mutex
		order  []int
		wg     sync.WaitGroup
	)
	for i := range 6 {
		ctx, waits := cluster.Waiting(f.Ctx())
		wg.Go(func() {
			// Mutex values of their own, on one session and name.
			err := etcdlock.NewMutex(s, "lock").Do(ctx, func(context.Context, *etcdlock.Lock) error {
				if n := inside.Add(1); n != 1 {
					return fmt.Errorf("%d inside", n)
				}
				defer inside.Add(-1)
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
				return nil
			})
			assert.NoError(t, err)
		})
		cluster.Receive(t, waits, "a wait")
	}
	cluster.Release(t, first)
	wg.Wait()
	require.Equal(t, []int{0, 1, 2, 3, 4, 5}, order)
	require.Empty(t, f.Keys("lock"))
}

// trap A3
func TestACancelledWaiterDoesNotCostItsSiblingThePlaceInLine(t *testing.T) {
	f := newFixture(t)
	holder, err := etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock").Lock(f.Ctx())
	require.NoError(t, err)

	s := f.Session(f.Client(), cluster.LongTTL)
	ctx, cancel := context.WithCancel(f.Ctx())
	cancelled := cluster.LockInBackground(ctx, etcdlock.NewMutex(s, "lock"))
	f.WaitForKeys("lock", 2)
	behind, waits := cluster.Waiting(f.Ctx())
	sibling := cluster.LockInBackground(behind, etcdlock.NewMutex(s, "lock"))
	cluster.Receive(t, waits, "a wait")
	stranger := cluster.LockInBackground(f.Ctx(), etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock"))
	f.WaitForKeys("lock", 3)

	before := f.Keys("lock")
	cancel()
	require.ErrorIs(t, cluster.Receive(t, cancelled, "the cancelled one").Err, context.Canceled)
	cluster.StillWaiting(t, sibling, 100*time.Millisecond)
	require.Equal(t, before, f.Keys("lock"), "the place in line is gone")

	cluster.Release(t, holder)
	l := cluster.Granted(t, sibling).Handle
	cluster.StillWaiting(t, stranger, 50*time.Millisecond)
	cluster.Release(t, l)
	cluster.Release(t, cluster.Granted(t, stranger).Handle)
}

func TestACancelledWaiterLeavesTheLine(t *testing.T) {
	f := newFixture(t)
	holder, err := etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock").Lock(f.Ctx())
	require.NoError(t, err)
	s := f.Session(f.Client(), cluster.LongTTL)
	_, err = etcdlock.NewMutex(s, "lock").Lock(f.Within(200 * time.Millisecond))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	f.WaitForKeys("lock", 1)

	done, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = etcdlock.NewMutex(s, "free").Lock(done)
	require.ErrorIs(t, err, context.Canceled)
	_, err = etcdlock.NewMutex(s, "free").TryLock(done)
	require.ErrorIs(t, err, context.Canceled)
	cluster.Release(t, holder)
}

// trap A13
func TestOfManyTryLocksOnAFreeLockExactlyOneWins(t *testing.T) {
	f := newFixture(t)
	var mutexes []*etcdlock.Mutex
	for range 4 {
		c := f.Client()
		for range 2 {
			mutexes = append(mutexes, etcdlock.NewMutex(f.Session(c, cluster.LongTTL), "lock"))
		}
	}
	for range 10 {
		won := make(chan *etcdlock.Lock, len(mutexes))
		var tries []func() error
		for _, m := range mutexes {
			tries = append(tries, func() error {
				l, err := m.TryLock(f.Ctx())
				if errors.Is(err, etcdlock.ErrLocked) {
					return nil
				}
				won <- l
				return err
			})
		}
		cluster.All(t, tries...)
		require.Len(t, won, 1)
		cluster.Release(t, <-won)
		require.Empty(t, f.Keys("lock"))
	}
}

func TestTryLockIsGrantedRightAfterUnlockHasReturned(t *testing.T) {
	f := newFixture(t)
	m := etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock")
	for i := range 100 {
		l, err := m.TryLock(f.Ctx())
		require.NoError(t, err, "round %d", i)
		require.NoError(t, l.Unlock(f.Ctx()))
	}
}

func TestTryLockIsRefusedAtOnceWhereASiblingHolds(t *testing.T) {
	f := newFixture(t)
	s := f.Session(f.Client(), cluster.LongTTL)
	l, err := etcdlock.NewMutex(s, "lock").TryLock(f.Ctx())
	require.NoError(t, err)
	_, err = etcdlock.NewMutex(s, "lock").TryLock(f.Ctx())
	require.ErrorIs(t, err, etcdlock.ErrLocked)
	cluster.Release(t, l)
	l, err = etcdlock.NewMutex(s, "lock").TryLock(f.Ctx())
	require.NoError(t, err)
	cluster.Release(t, l)
}

// trap A8
func TestAHandleEndsWithItsUnlockAndNeverTouchesALaterOne(t *testing.T) {
	f := newFixture(t)
	m := etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock")
	type key struct{}
	first, err := m.Lock(context.WithValue(f.Ctx(), key{}, "value"))
	require.NoError(t, err)
	require.NoError(t, first.Err())
	require.NoError(t, first.Context().Err())
	require.Equal(t, "value", first.Context().Value(key{}))
	require.Positive(t, time.Until(first.Deadline()))

	unlocked := make(chan error)
	go func() { unlocked <- first.Unlock(f.Ctx()) }() // another goroutine than the one that locked
	require.NoError(t, cluster.Receive(t, unlocked, "Unlock"))
	require.ErrorIs(t, first.Err(), etcdlock.ErrReleased)
	require.ErrorIs(t, context.Cause(first.Context()), etcdlock.ErrReleased)
	<-first.Done()

	second, err := m.Lock(f.Ctx())
	require.NoError(t, err)
	require.Equal(t, first.Key(), second.Key())
	require.ErrorIs(t, first.Unlock(f.Ctx()), etcdlock.ErrReleased)
	require.NoError(t, second.Err())
	require.Equal(t, []string{second.Key()}, f.Keys("lock"))

	f.Keep("resource")
	write := func(l *etcdlock.Lock) bool {
		resp, err := f.Admin.Txn(f.Ctx()).If(l.Guard()).Then(clientv3.OpPut("resource", "x")).Commit()
		require.NoError(t, err)
		return resp.Succeeded
	}
	require.True(t, write(second), "the guard of a hold that stands")
	require.False(t, write(first), "the guard of a former hold under the same key")
	cluster.Release(t, second)
	require.False(t, write(second))
}

func TestDoReleasesAndReturnsTheErrorOfItsFunction(t *testing.T) {
	f := newFixture(t)
	m := etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock")
	boom := errors.New("boom")
	err := m.Do(f.Ctx(), func(ctx context.Context, l *etcdlock.Lock) error {
		assert.NoError(t, ctx.Err())
		assert.Equal(t, []string{l.Key()}, f.Keys("lock"))
		return boom
	})
	require.ErrorIs(t, err, boom)
	require.Empty(t, f.Keys("lock"))
	require.Panics(t, func() {
		_ = m.Do(f.Ctx(), func(context.Context, *etcdlock.Lock) error { panic("boom") })
	})
	require.Eventually(t, func() bool { return len(f.Keys("lock")) == 0 }, 5*time.Second, 10*time.Millisecond,
		"a panic left the lock behind")
}

// trap A17
func TestTheLockerExcludesAsASyncLocker(t *testing.T) {
	f := newFixture(t)
	f.Put("counter", "0")
	var workers []func() error
	for range 3 {
		c := f.Client()
		locker := etcdlock.NewMutex(f.Session(c, cluster.LongTTL), "lock").Locker()
		workers = append(workers, func() error {
			for range 5 {
				locker.Lock()
				err := cluster.Raise(f.Ctx(), c, "counter")
				locker.Unlock()
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	cluster.All(t, workers...)
	require.Equal(t, "15", f.Get("counter"))
}

// trap A19
func TestOneSessionServesManyLocksUnderOneLease(t *testing.T) {
	f := newFixture(t)
	s := f.Session(f.Client(), cluster.LongTTL)
	var workers []func() error
	for i := range 100 {
		workers = append(workers, func() error {
			l, err := etcdlock.NewMutex(s, "many/"+strconv.Itoa(i)).Lock(f.Ctx())
			if err != nil {
				return err
			}
			if want := "many/" + strconv.Itoa(i) + "/" + cluster.Hex(s.Lease()); l.Key() != want {
				return fmt.Errorf("key %q, not %q", l.Key(), want)
			}
			return nil // released by Close
		})
	}
	cluster.All(t, workers...)
	require.Len(t, f.Keys("many"), 100)
	require.NoError(t, s.Close(f.Ctx()))
	require.Empty(t, f.Keys("many"))
}

func TestTheHostAndProcessInAQueueAreThisOnes(t *testing.T) {
	f := newFixture(t)
	m := etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock")
	l, err := m.Lock(f.Ctx())
	require.NoError(t, err)
	entries, err := m.Queue(f.Ctx())
	require.NoError(t, err)
	require.Len(t, entries, 1)
	host, err := os.Hostname()
	require.NoError(t, err)
	require.Equal(t, host, entries[0].Host)
	require.Equal(t, os.Getpid(), entries[0].PID)
	require.NotEmpty(t, entries[0].Owner)
	cluster.Release(t, l)
}
