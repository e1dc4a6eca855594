package clock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheClockNeverGoesBackAndKeepsPaceWithTheMonotonicOne(t *testing.T) {
	for name, now := range map[string]func() time.Duration{"Now": Now, "faster": faster} {
		t.Run(name, func(t *testing.T) {
			before, reference := now(), time.Now()
			last := before
			for time.Since(reference) < 20*time.Millisecond {
				n := now()
				require.GreaterOrEqual(t, n, last)
				last = n
			}
			require.GreaterOrEqual(t, now()-before, 20*time.Millisecond)
		})
	}
}

func BenchmarkNow(b *testing.B) {
	for b.Loop() {
		Now()
	}
}
