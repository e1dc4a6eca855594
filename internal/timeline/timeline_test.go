package timeline

import (
	"testing"

	"github.com/stretchr/testify/require"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func header(cluster uint64, revision int64) *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: cluster, Revision: revision}
}

// report R5
func TestASmallerRevisionOrAnotherClusterIsAnotherTimeline(t *testing.T) {
	for name, step := range map[string]struct {
		h    *pb.ResponseHeader
		next int
	}{
		"larger":              {header(1, 11), 0},
		"equal":               {header(1, 10), 0},
		"smaller":             {header(1, 9), 1},
		"another cluster":     {header(2, 11), 1},
		"without a cluster":   {header(0, 11), 0},
		"without a revision":  {header(2, 0), 0},
		"without a header":    {nil, 0},
		"smaller, no cluster": {header(0, 9), 1},
	} {
		t.Run(name, func(t *testing.T) {
			tr := &Tracker{}
			var changes []Change
			tr.OnChange = func(c Change) { changes = append(changes, c) }
			require.True(t, tr.Answered(tr.Ask(), header(1, 10)))
			changed := tr.Changed()
			m := tr.Ask()
			require.Equal(t, step.next > 0, tr.Doubts(m, step.h), "of a single member it is a reason to ask")
			require.Zero(t, tr.Number(), "and no proof")
			require.True(t, tr.Answered(m, step.h))
			require.Equal(t, step.next, tr.Number())
			require.Len(t, changes, step.next)
			select {
			case <-changed:
				require.Equal(t, 1, step.next)
				require.Equal(t, Change{Number: 1, Revision: step.h.Revision, LastRevision: 10, Cluster: step.h.ClusterId, LastCluster: 1}, changes[0])
			default:
				require.Zero(t, step.next)
			}
		})
	}
}

// report R5: answers may overtake each other, and come late.
func TestOnlyWhatWasKnownBeforeARequestCounts(t *testing.T) {
	tr := &Tracker{}
	early := tr.Ask()
	require.True(t, tr.Answered(tr.Ask(), header(1, 10)))
	require.True(t, tr.Answered(early, header(1, 5)), "it was sent before the other answer came")
	require.Zero(t, tr.Number())

	old := tr.Ask()
	require.True(t, tr.Answered(tr.Ask(), header(1, 3)))
	require.Equal(t, 1, tr.Number())
	require.False(t, tr.Answered(old, header(1, 12)), "of which timeline, is not known")
	require.False(t, tr.Doubts(old, header(1, 1)))
	require.True(t, tr.Answered(tr.Ask(), header(1, 4)), "nothing is known of the late answer")
	require.Equal(t, 1, tr.Number())
}
