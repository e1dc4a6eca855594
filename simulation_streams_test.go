package etcdlock

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The schedules of TestSimulation, with watches as they are on a real connection.
func TestSimulationWithWatchesOnStreams(t *testing.T) {
	sum := newTally()
	first, count := seeds(t, 120)
	for seed := first; seed < first+count; seed++ {
		p := play(t, seed, func(s *simulation) { s.ours(watchOn) })
		sum.add(p)
		if verdict := p.verdict(); verdict != "" {
			t.Fatal(verdict)
		}
	}
	t.Log(sum.figures())
	require.Positive(t, sum.grants)
}
