package queue

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A watch that does not tell what a reading has shown may hang on a member that does: the next
// one goes by another stream. One that tells keeps its own.
func TestAWaitMovesToAnotherStreamWhenItsWatchIsSilent(t *testing.T) {
	for silent, streams := range map[bool]int32{true: 1, false: 0} {
		simulate(t, func(r *rig) {
			a, b, c := r.queue("a"), r.queue("b"), r.queue("c")
			first, second, third := r.enter(a), r.enter(b), r.enter(c)
			got := r.await(c, third)
			time.Sleep(500 * time.Millisecond)
			if silent {
				r.MissDelete(second.Key)
			}
			require.NoError(r, b.Leave(r.ctx, second, false))
			time.Sleep(firstResync + patience)
			require.Equal(r, streams, c.stream.Load())
			require.NoError(r, a.Leave(r.ctx, first, false))
			require.NoError(r, (<-got).err)
		})
	}
}
