//go:build lockorder

package lockmgr

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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
