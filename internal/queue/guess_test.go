package queue

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Who has got in beside others has not found the queue empty.
func TestATryBesideOthersFoundSomebody(t *testing.T) {
	simulate(t, func(r *rig) {
		a, b := r.queue("a"), r.queue("b")
		want := Want{Lease: r.GrantLease(time.Hour), Value: `{"since":"2000-01-01T00:00:00Z","mode":"shared"}`, Rule: Shared()}
		_, _, err := b.Enter(r.ctx, want)
		require.NoError(r, err)
		want.Lease = r.GrantLease(time.Hour)
		e, _, err := a.TryEnter(r.ctx, want)
		require.NoError(r, err)
		require.True(r, e.First())
		require.False(r, a.wasEmpty())
		require.EqualValues(r, 1, a.size.Load())
	})
}
