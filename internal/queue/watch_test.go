package queue

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestAWatchTellsOfWhatComesAfterItsRevision(t *testing.T) {
	simulate(t, func(r *rig) {
		lease := r.GrantLease(time.Hour)
		before := r.PutKey("q/1", "", lease)
		for _, c := range []struct {
			opts  []clientv3.OpOption
			since int64
		}{
			{nil, before},
			{[]clientv3.OpOption{clientv3.WithRev(before)}, before},         // it tells of before, too
			{[]clientv3.OpOption{clientv3.WithRev(before + 2)}, before + 1}, // which is not yet
		} {
			w := r.queue("a").open(r.ctx, "q/1", c.opts...)
			require.NotNil(r, w)
			require.Equal(r, c.since, w.since)
			w.stop()
		}
		w := r.queue("a").open(r.ctx, "q/1")
		after := r.PutKey("q/1", "", lease)
		require.Equal(r, after, (<-w.reports).Events[0].Kv.ModRevision)
		require.Equal(r, after-1, w.since)
		w.stop()
	})
}
