package etcdlock

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	logged "go.uber.org/zap/zaptest/observer"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func TestALockerIsASyncLocker(t *testing.T) {
	simulate(t, func(w *world) {
		l := NewMutex(w.session("a"), "m").Locker()
		other := NewMutex(w.session("b"), "m").Locker()
		var crowd sync.WaitGroup
		count := 0 // guarded by m, as far as the race detector is concerned by l alone
		for range 5 {
			crowd.Go(func() {
				for range 10 {
					l.Lock()
					n := count
					time.Sleep(time.Millisecond)
					count = n + 1
					l.Unlock()
				}
			})
		}
		crowd.Go(func() {
			for range 10 {
				other.Lock()
				time.Sleep(time.Millisecond)
				other.Unlock()
			}
		})
		crowd.Wait()
		require.Equal(w, 50, count)
		w.pass(time.Second)
		w.allGone()
	})
}

// trap A17
func TestALockerSitsOutOutagesAndLossesWithoutPanicking(t *testing.T) {
	simulate(t, func(w *world) {
		core, logs := logged.New(zapcore.ErrorLevel)
		s := w.session("a", WithLogger(zap.New(core)))
		l := NewMutex(s, "m").Locker()
		l.Lock()
		w.Client("a").Cut()
		w.pass(time.Minute)
		l.Unlock() // of a lock that was lost
		require.Equal(w, 1, logs.FilterField(zap.String("name", "m")).Len(), "logged, with the name")

		lock := start(w, func(context.Context) (any, error) { l.Lock(); return nil, nil })
		w.pass(time.Minute)
		lock.isWaiting()
		w.Client("a").Heal()
		lock.get()
		l.Unlock()

		// The place in the line is lost while it waits; it takes another one.
		held := w.lock(NewMutex(w.session("b"), "m"))
		lock = start(w, func(context.Context) (any, error) { l.Lock(); return nil, nil })
		for range 3 {
			w.pass(time.Second)
			lock.isWaiting()
			w.RevokeLease(s.Lease())
		}
		w.pass(time.Second)
		w.DeleteKey(string(w.Keys("m/")[1].Key))
		w.pass(time.Second)
		lock.isWaiting()
		require.NoError(w, held.Unlock(w.ctx))
		lock.get()

		w.Client("a").Cut() // Unlock does not wait for etcd
		began := time.Now()
		l.Unlock()
		require.Zero(w, time.Since(began))
		w.Client("a").Heal()
		w.pass(10 * time.Second)
		w.allGone()
	})
}

func TestALockerPanicsOnlyWhenItCanNeverLock(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		panics := func(with error, l sync.Locker) {
			w.Helper()
			defer func() {
				err, ok := recover().(error)
				require.True(w, ok)
				require.ErrorIs(w, err, with)
			}()
			l.Lock()
		}
		panics(ErrInvalidName, NewMutex(s, "").Locker())
		panics(ErrSessionClosed, NewMutex(nil, "m").Locker())
		w.every("a", simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}, simetcd.Txn)
		panics(rpctypes.ErrPermissionDenied, NewMutex(s, "m").Locker())
		w.Intercept(nil)

		l := NewMutex(s, "m").Locker()
		require.PanicsWithError(w, `etcdlock: unlock "m": this Locker does not hold the lock: call Lock first`, l.Unlock)
		l.Lock()
		l.Unlock() //nolint:staticcheck // nothing to do in between
		require.Panics(w, l.Unlock, "a second time")
		w.lock(NewMutex(s, "m"))
		require.Panics(w, l.Unlock, "held by another goroutine")

		require.NoError(w, s.Close(w.ctx))
		panics(ErrSessionClosed, l)
	})
}
