package telemetry

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Two servers that scrape every 15 s both see what was low or high between two scrapes.
func TestWhatIsLowOrHighIsSeenByEachServer(t *testing.T) {
	var r Recent
	began := time.Now()
	at := func(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
	_, _, ok := r.Read(at(0))
	require.False(t, ok)
	for s := 1; s <= 300; s++ {
		r.Add(10*time.Second, at(s))
		if s == 100 {
			r.Add(time.Second, at(s))
			r.Add(time.Minute, at(s))
		}
		for range 2 {
			low, high, ok := r.Read(at(s))
			require.True(t, ok)
			if s >= 100 && s <= 160 {
				require.Equal(t, [2]time.Duration{time.Second, time.Minute}, [2]time.Duration{low, high}, s)
			}
			if s < 100 || s >= 220 {
				require.Equal(t, [2]time.Duration{10 * time.Second, 10 * time.Second}, [2]time.Duration{low, high}, s)
			}
		}
	}
	_, _, ok = r.Read(at(1000))
	require.False(t, ok, "there was none for minutes")
	r.Add(-time.Second, at(1001))
	low, _, _ := r.Read(at(1001))
	require.Zero(t, low)
}
