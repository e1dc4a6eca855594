//go:build lockorder

package lockmgr

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/roster"
)

// A release that deletes a key which the worker watches takes the mutex of the manager four times:
// to decide what follows, after the deletion, and twice in the worker.
func TestAReleaseTakesTheMutexFewTimes(t *testing.T) {
	simulate(t, func(r *rig) {
		m := r.manager("a")
		taken := func() int {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.mu.Taken - 1
		}
		h := m.lock("m", exclusive())
		r.pass(time.Second) // until the worker watches the key
		before := taken()
		r.unlock(h)
		r.pass(100 * time.Millisecond)
		require.LessOrEqual(r, taken()-before-1, 4)

		h = m.lock("m", exclusive())
		before = taken()
		r.unlock(h)
		require.LessOrEqual(r, taken()-before-1, 2, "without a worker")
	})
}

// What the session reports of its lease concerns each hold. The mutex is released between two batches
// of them, so the longest time for which it is held does not grow with the number of holds.
func TestTheMutexIsReleasedBetweenBatchesOfManyHolds(t *testing.T) {
	simulate(t, func(r *rig) {
		m := r.manager("a")
		lockMany(m)
		taken := func() (n, locals int) {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.mu.Taken, m.locals.all.Len()
		}
		before, locals := taken()
		m.Suspend(m.number, true)
		now, _ := taken()
		require.Greater(r, now-before, locals/roster.Batch)
		before, locals = taken()
		require.NoError(r, m.Drain(r.Context()))
		now, _ = taken()
		require.Greater(r, now-before, (locals+m.beside.all.Len())/roster.Batch)
	})
}
