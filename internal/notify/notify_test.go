package notify

import (
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestCallsAreMadeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q Queue
		var got, want []int
		for i := range 100 {
			want = append(want, i)
			q.Put(func() { got = append(got, i) })
			if i%30 == 0 {
				synctest.Wait() // the goroutine has ended, and the next call starts another one
			}
		}
		synctest.Wait()
		require.Equal(t, want, got)
	})
}

func TestACallThatEndsItsGoroutineHasReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q Queue
		made := 0
		q.Put(func() { made++; runtime.Goexit() })
		q.Put(func() { made++ })
		synctest.Wait()
		require.Equal(t, 2, made)
	})
}

// A call that does not return costs a bounded amount of memory, and no caller of Put any time.
func TestACallThatHangsIsWaitedForByNoCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q Queue
		hang := make(chan struct{})
		q.Put(func() { <-hang })
		synctest.Wait()
		made := 0
		for range 2 * Most {
			q.Put(func() { made++ })
		}
		rare := 0
		q.PutAlways(func() { rare++ })
		close(hang)
		synctest.Wait()
		require.Equal(t, Most, made)
		require.Equal(t, 1, rare)
	})
}
