package alarm

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

type ringer func()

func (r ringer) Ring() { r() }

func (c *Clock) have(f func()) *Alarm {
	var a Alarm
	c.Set(&a, ringer(f))
	return &a
}

func TestAlarmsGoOffInTime(t *testing.T) {
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

func TestAStoppedAlarmNeverGoesOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(time.Second)
		var count atomic.Int32
		alarms := make([]*Alarm, 5)
		for i := range alarms {
			alarms[i] = c.have(func() { count.Add(1) })
		}
		for _, i := range []int{2, 0, 4} { // in the middle, first, last
			require.True(t, alarms[i].Stop())
			require.False(t, alarms[i].Stop())
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		require.EqualValues(t, 2, count.Load())
		require.False(t, alarms[1].Stop())
	})
}

func TestAnAlarmSetWhileTheTimerRunsForAStoppedOneIsNotLate(t *testing.T) {
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
		require.Nil(t, c.first, "an alarm was left")
	})
}

// Who stops an alarm too late may set it again while it still rings. (The race detector tells.)
func TestAnAlarmIsSetAgainWhileItRings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(time.Second)
		var rang atomic.Int32
		slow := ringer(func() {
			time.Sleep(time.Millisecond)
			rang.Add(1)
		})
		var a Alarm
		c.Set(&a, slow)
		time.Sleep(time.Second + time.Microsecond)
		require.False(t, a.Stop(), "it rings")
		c.Set(&a, slow)
		time.Sleep(2 * time.Second)
		require.EqualValues(t, 2, rang.Load())
	})
}
