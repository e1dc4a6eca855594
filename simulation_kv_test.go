package etcdlock

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The schedules of TestSimulation, with all writes through the client's KV, as for a client in a
// namespace.
func TestSimulationWithWritesThroughTheClientsKV(t *testing.T) {
	sum := newTally()
	first, count := seeds(t, 120)
	for seed := first; seed < first+count; seed++ {
		p := play(t, seed, func(s *simulation) { s.ours(writeByKV) })
		sum.add(p)
		if verdict := p.verdict(); verdict != "" {
			t.Fatal(verdict)
		}
	}
	t.Log(sum.figures())
	require.Positive(t, sum.grants)
}
