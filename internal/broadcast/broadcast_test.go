package broadcast_test

import (
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/broadcast"
)

func TestABroadcastWakesAllThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			mu    sync.Mutex
			state int
			s     broadcast.Signal
			tasks sync.WaitGroup
		)
		for range 3 {
			tasks.Go(func() {
				for {
					mu.Lock()
					now, changed := state, s.Changed()
					mu.Unlock()
					if now == 2 {
						return
					}
					<-changed
				}
			})
		}
		for range 2 {
			synctest.Wait()
			mu.Lock()
			state++
			s.Broadcast()
			mu.Unlock()
		}
		tasks.Wait()
	})
}

func TestABroadcastWakesNoLaterWaiter(t *testing.T) {
	var s broadcast.Signal
	s.Broadcast()
	changed := s.Changed()
	require.Equal(t, changed, s.Changed(), "there was no change between the two calls")
	select {
	case <-changed:
		require.Fail(t, "the broadcast came before")
	default:
	}
	s.Broadcast()
	<-changed
	require.NotEqual(t, changed, s.Changed())
}
