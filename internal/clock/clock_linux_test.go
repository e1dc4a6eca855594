package clock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func boottime(t *testing.T) time.Duration {
	var ts unix.Timespec
	require.NoError(t, unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts))
	return time.Duration(ts.Nano())
}

func TestTheClockIsThatOfTheKernelAndAsksAgainWhenTheClocksRunApart(t *testing.T) {
	near := func() {
		t.Helper()
		before, now, after := boottime(t), Now(), boottime(t)
		require.GreaterOrEqual(t, now, before-2*step)
		require.LessOrEqual(t, now, after+2*step)
	}
	near()
	// The answer before a sleep: less was slept, and the wall clock was less ahead.
	l := *last.Load()
	last.Store(&answer{asleep: l.asleep - time.Hour, ahead: l.ahead - time.Hour})
	near()
	require.InDelta(t, l.asleep, last.Load().asleep, float64(2*step))
}
