package etcdlock

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// The schedules of TestSimulation, with watches as they are on a real connection.
func TestSimulationWithWatchesOnStreams(t *testing.T) { simulationBy(t, watchOn) }

// And with all writes through the client's KV, as for a client in a namespace.
func TestSimulationWithWritesThroughTheClientsKV(t *testing.T) { simulationBy(t, writeByKV) }

// simulationBy plays the schedules with sessions that go another way to etcd.
func simulationBy(t *testing.T, way func(*simetcd.Client) SessionOption) {
	t.Helper()
	sum := newTally()
	first, count := seeds(t, 120)
	for seed := first; seed < first+count; seed++ {
		p := play(t, seed, func(s *simulation) { s.ours(way) })
		sum.add(p)
		if verdict := p.verdict(); verdict != "" {
			t.Fatal(verdict)
		}
	}
	t.Log(sum.figures())
	require.Positive(t, sum.grants)
}
