package etcdlock

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// What the fast paths allocate is bounded here, as time is not: a test that measured that would
// fail on a busy machine. The race detector allocates too, so the bounds hold without it.

// A free lock takes two requests. What the simulated etcd and the client take for such requests
// is measured beside, and is not counted.
func TestAFreeLockAllocatesLittle(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		mu := NewMutex(s, "lock")
		pair := testing.AllocsPerRun(200, func() { w.unlock(w.lock(mu).Unlock) })
		client := s.Client()
		bare := testing.AllocsPerRun(200, func() {
			ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
			defer cancel()
			_, err := client.Put(ctx, "bare", "x", clientv3.WithLease(s.Lease()))
			require.NoError(w, err)
			_, err = client.Delete(ctx, "bare")
			require.NoError(w, err)
		})
		w.Logf("%v allocations for a pair, %v for a put and a delete", pair, bare)
		if !raceEnabled {
			require.LessOrEqual(w, pair, bare+freePairAllocs)
		}
	})
}

// A handover from one goroutine to another of the session, and the pair of a key that is kept.
func TestAHandoverInMemoryAllocatesLittle(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		kept := NewMutex(s, "kept", WithRetention(time.Hour))
		w.unlock(w.lock(kept).Unlock)
		pair := testing.AllocsPerRun(1000, func() { w.unlock(w.lock(kept).Unlock) })

		local := NewMutex(s, "local", WithTimeSlice(time.Hour))
		held := w.lock(local)
		next := make(chan *Lock)
		waits := make(chan struct{})
		go func() {
			for range waits {
				l, err := local.Lock(w.ctx)
				if err != nil {
					close(next)
					return
				}
				next <- l
			}
		}()
		waits <- struct{}{}
		synctest.Wait()
		handover := testing.AllocsPerRun(1000, func() {
			w.unlock(held.Unlock)
			held = <-next
			waits <- struct{}{}
			synctest.Wait() // it is in line
		})
		close(waits)
		w.unlock(held.Unlock)
		w.unlock((<-next).Unlock)
		w.Logf("%v allocations for a kept pair, %v for a handover", pair, handover)
		if !raceEnabled {
			require.LessOrEqual(w, pair, keptPairAllocs)
			require.LessOrEqual(w, handover, handoverAllocs)
		}
	})
}

// The bounds are what was measured (67, 15, 13) and a tenth more. The context with a timeout that
// the test makes for each call is in them.
const (
	freePairAllocs = 74.0
	keptPairAllocs = 16.0
	handoverAllocs = 14.0
)
