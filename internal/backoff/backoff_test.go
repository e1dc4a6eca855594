package backoff

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheDelayGrowsUpToItsBoundAndIsSpreadOverHalfOfIt(t *testing.T) {
	const first, most = 50 * time.Millisecond, 5 * time.Second
	for n, full := range []time.Duration{first, 2 * first, 4 * first, 8 * first} {
		low, high := most, time.Duration(0)
		for seed := range int64(1000) {
			d := Delay(n, first, most, seed)
			require.GreaterOrEqual(t, d, full/2)
			require.LessOrEqual(t, d, full)
			low, high = min(low, d), max(high, d)
		}
		require.Less(t, low, full*52/100, "the seeds use the lower end")
		require.Greater(t, high, full*98/100, "and the upper one")
	}
	for _, n := range []int{10, 64, 1 << 20} {
		require.LessOrEqual(t, Delay(n, first, most, 7), most)
		require.GreaterOrEqual(t, Delay(n, first, most, 7), most/2)
	}
	require.Equal(t, Delay(3, first, most, 42), Delay(3, first, most, 42), "the same each time")
}
