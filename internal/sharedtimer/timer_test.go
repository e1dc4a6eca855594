package sharedtimer

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

type callback func()

func (r callback) Fire() { r() }

func (c *Queue) have(f func()) *Timer {
	var a Timer
	c.Set(&a, callback(f))
	return &a
}

func TestTimersFireInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(time.Second)
		began := time.Now()
		off := make(chan time.Duration, 3)
		for range 3 {
			c.have(func() { off <- time.Since(began) })
			time.Sleep(300 * time.Millisecond)
		}
		require.Equal(t, time.Second, <-off)
		require.Equal(t, 1300*time.Millisecond, <-off)
		require.Equal(t, 1600*time.Millisecond, <-off)
		synctest.Wait()
		c.mu.Lock()
		defer c.mu.Unlock()
		require.False(t, c.armed, "a timer of no use")
	})
}

func TestAStoppedTimerNeverFires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(time.Second)
		var count atomic.Int32
		timers := make([]*Timer, 5)
		for i := range timers {
			timers[i] = c.have(func() { count.Add(1) })
		}
		for _, i := range []int{2, 0, 4} { // in the middle, first, last
			require.True(t, timers[i].Stop())
			require.False(t, timers[i].Stop())
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		require.EqualValues(t, 2, count.Load())
		require.False(t, timers[1].Stop())
	})
}

func TestATimerSetWhileTheQueueIsArmedForAStoppedOneIsNotLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(time.Second)
		c.have(func() { t.Error("it was stopped") }).Stop()
		time.Sleep(999 * time.Millisecond)
		began := time.Now()
		off := make(chan time.Duration, 1)
		c.have(func() { off <- time.Since(began) })
		require.Equal(t, time.Second, <-off)
	})
}

func TestAContextEndsInTimeAndTellsNoDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(time.Second)
		ctx, cancel := c.Context(t.Context())
		defer cancel()
		_, has := ctx.Deadline()
		require.False(t, has)
		began := time.Now()
		<-ctx.Done()
		require.Equal(t, time.Second, time.Since(began))

		short, cancel := c.Context(t.Context())
		cancel()
		require.ErrorIs(t, short.Err(), context.Canceled)
		require.Nil(t, c.first, "a timer was left")
	})
}

// A timer that is stopped too late may be set again while its callback still runs. (The race detector tells.)
func TestATimerIsSetAgainWhileItsCallbackRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(time.Second)
		var rang atomic.Int32
		slow := callback(func() {
			time.Sleep(time.Millisecond)
			rang.Add(1)
		})
		var a Timer
		c.Set(&a, slow)
		time.Sleep(time.Second + time.Microsecond)
		require.False(t, a.Stop(), "its callback runs")
		c.Set(&a, slow)
		time.Sleep(2 * time.Second)
		require.EqualValues(t, 2, rang.Load())
	})
}
