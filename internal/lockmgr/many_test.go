package lockmgr

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/lockerr"
)

const many = 10_000

// lockMany acquires many names, each third one as a reader. Some are released, and their keys are
// kept.
func lockMany(m *managed) (held int) {
	for i := range many {
		r := exclusive()
		if i%3 == 0 {
			r = shared()
		}
		r.Terms.Retention = time.Hour
		if h := m.lock(fmt.Sprint("m", i), r); i%100 == 1 {
			m.rig.unlock(h)
		} else {
			held++
		}
	}
	return held
}

func TestALossEndsAndCountsEachOfManyHolds(t *testing.T) {
	simulate(t, func(r *rig) {
		m := r.manager("a")
		held := lockMany(m)
		m.present.End(errEnded)
		r.pass(time.Minute)
		require.EqualValues(r, held, m.lost.Load())
		require.Equal(r, nothing, m.Snapshot())
	})
}

func TestASuspendedSessionGivesUpManyKeptKeys(t *testing.T) {
	simulate(t, func(r *rig) {
		m := r.manager("a")
		held := lockMany(m)
		m.Suspend(m.number, true)
		r.pass(time.Second)
		require.Len(r, r.Keys("m"), held)
	})
}

func TestADrainWaitsForManyReleases(t *testing.T) {
	simulate(t, func(r *rig) {
		m := r.manager("a")
		held := lockMany(m)
		r.Client("a").SetLatency(time.Second, time.Second)
		ctx, cancel := context.WithTimeout(r.Context(), 100*time.Millisecond)
		defer cancel()
		require.ErrorContains(r, m.Drain(ctx), "are not confirmed yet")
		require.NoError(r, m.Drain(r.Context()))
		require.Len(r, r.Keys("m"), held)
		_, err := m.Acquire(r.Context(), "n", exclusive())
		require.ErrorIs(r, err, lockerr.ErrSessionClosed)
	})
}

// A drain looks at many holds, and releases the mutex in between. It closes the manager only if none of
// them was released meanwhile.
func TestADrainIsNotOverIfAHoldWasReleasedDuringItsLook(t *testing.T) {
	simulate(t, func(r *rig) {
		m := r.manager("a")
		h := m.lock("m", exclusive())
		ends, _, _ := m.Draining()
		require.Zero(r, m.Pending())
		r.Client("a").SetLatency(time.Second, time.Second)
		h.Abandon()
		m.CloseIf(ends)
		require.Equal(r, "open", m.Snapshot().Admission)
		require.NoError(r, m.Drain(r.Context()))
		require.Empty(r, r.Keys("m"))
	})
}
