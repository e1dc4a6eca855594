//go:build lockorder

package lockmgr

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/lockorder"
	"github.com/etcdlock/etcdlock/internal/roster"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// taken returns how often the mutex of a table is taken by a function.
func taken(f func()) int {
	var n atomic.Int64
	defer lockorder.Observe(func(owner string, _ any) {
		if owner == "manager" {
			n.Add(1)
		}
	})()
	f()
	return int(n.Load())
}

// A release that deletes a key which the worker watches takes the mutex of the manager four times:
// to decide what follows, after the deletion, and twice in the worker.
func TestAReleaseTakesTheMutexFewTimes(t *testing.T) {
	simulate(t, func(r *rig) {
		m := r.manager("a")
		h := m.lock("m", exclusive())
		r.pass(time.Second) // until the keeper watches the key
		require.LessOrEqual(r, taken(func() {
			r.unlock(h)
			r.pass(100 * time.Millisecond)
		}), 4)
		h = m.lock("m", exclusive())
		require.LessOrEqual(r, taken(func() { r.unlock(h) }), 2, "without a worker")
	})
}

// A release without an answer is the slow one: the worker deletes the key.
func TestASlowReleaseTakesTheMutexFewTimes(t *testing.T) {
	simulate(t, func(r *rig) {
		m := r.manager("a")
		h := m.lock("m", exclusive())
		r.pass(time.Second)
		drops := 1
		r.Intercept(func(simetcd.Call) simetcd.Action {
			drops--
			return simetcd.Action{DropRequest: drops >= 0}
		})
		require.LessOrEqual(r, taken(func() {
			r.unlock(h)
			r.pass(100 * time.Millisecond)
		}), 4+1, "and once afterwards, for the next caller")
	})
}

// What the session reports of its lease concerns each hold. The mutex is released between two batches
// of them, so the longest time for which it is held does not grow with the number of holds.
func TestTheMutexIsReleasedBetweenBatchesOfManyHolds(t *testing.T) {
	simulate(t, func(r *rig) {
		m := r.manager("a")
		lockMany(m)
		locals := m.Snapshot().Queues
		require.Greater(r, taken(func() { m.Suspend(m.number, true) }), locals/roster.Batch)
		require.Greater(r, taken(func() { require.NoError(r, m.Drain(r.Context())) }), many*2/3/roster.Batch)
	})
}
