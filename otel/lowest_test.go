package otellock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Two servers that scrape every 15 s both see what was low between two scrapes.
func TestTheLowestIsSeenByEachServer(t *testing.T) {
	var l lowest
	began := time.Now()
	at := func(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
	_, ok := l.read(at(0))
	require.False(t, ok)
	for s := 1; s <= 300; s++ {
		left := 10 * time.Second
		if s == 100 {
			left = time.Second
		}
		l.add(left, at(s))
		for range 2 {
			low, ok := l.read(at(s))
			require.True(t, ok)
			if s >= 100 && s <= 160 {
				require.Equal(t, time.Second, low, s)
			}
			if s < 100 || s >= 220 {
				require.Equal(t, 10*time.Second, low, s)
			}
		}
	}
	_, ok = l.read(at(1000))
	require.False(t, ok, "no renewal was answered for minutes")
	l.add(-time.Second, at(1001))
	low, _ := l.read(at(1001))
	require.Zero(t, low)
}
