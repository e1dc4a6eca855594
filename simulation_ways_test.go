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

// Many sessions lock one name, and each entry is told when it is its turn. In half of the schedules an
// entry is told only if the last one of its session had company, so others are not.
func TestSimulationOfACrowd(t *testing.T) {
	sum := newTally()
	first, count := seeds(t, 40)
	for seed := first; seed < first+count; seed++ {
		p := play(t, seed, func(s *simulation) {
			s.crowd = true
			s.ours(func(*simetcd.Client) SessionOption {
				return sessionOptionFunc(func(c *sessionConfig) { c.Hooks.Crowd = []int64{-1, 1}[seed%2] })
			})
		})
		sum.add(p)
		if verdict := p.verdict(); verdict != "" {
			t.Fatal(verdict)
		}
	}
	t.Log(sum.figures())
	require.Positive(t, sum.grants)
}

// otherMarked ends the second one of the two marked keys. It is mostly written by a release that enters again.
const otherMarked = ".1000000001"

// In each session several callers lock one name, and hold for so short a time that some always wait. So a
// release enters again by its transaction.
func TestSimulationOfABriskCrowd(t *testing.T) {
	sum := newTally()
	first, count := seeds(t, 12)
	for seed := first; seed < first+count; seed++ {
		p := play(t, seed, func(s *simulation) {
			s.crowd, s.brisk = true, true
			s.ours(func(*simetcd.Client) SessionOption {
				return sessionOptionFunc(func(c *sessionConfig) { c.Hooks.Crowd = []int64{-1, 1}[seed/2%2] })
			})
		})
		sum.add(p)
		if verdict := p.verdict(); verdict != "" {
			t.Fatal(verdict)
		}
	}
	t.Log(sum.figures(), sum.again)
	require.Greater(t, sum.again, sum.grants/10)
}

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
