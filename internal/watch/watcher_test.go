package watch

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func TestWatchesShareAStreamAndEachIsToldOfItsOwn(t *testing.T) {
	simulate(t, func(r *rig) {
		one, other := r.open("k/1"), r.open("k/2")
		all, gone := r.open("k/", clientv3.WithPrefix()), r.open("k/1", clientv3.WithFilterPut())
		written, alone := r.open("k/1", clientv3.WithFilterDelete()), r.open("z")
		r.streams(1, 1)
		first, second := r.put("k/1"), r.put("k/2")
		r.DeleteKey("k/1")
		deleted := r.Revision()
		r.tells(one, first, deleted)
		r.tells(other, second)
		r.tells(all, first, second, deleted)
		r.tells(gone, deleted)
		r.tells(written, first)
		r.tells(alone)
	})
}

// trap A22
func TestAStreamRequiresALeader(t *testing.T) {
	simulate(t, func(r *rig) {
		w := r.open("k")
		require.Equal(r, []string{rpctypes.MetadataHasLeader}, r.metadata().Get(rpctypes.MetadataRequireLeaderKey))
		r.NewLeader()
		r.over(w)
	})
}

func TestAWatchTellsOfWhatComesAfterItsRevision(t *testing.T) {
	simulate(t, func(r *rig) {
		before := r.put("k")
		now, past, future := r.open("k"), r.open("k", clientv3.WithRev(before)), r.open("k", clientv3.WithRev(before+2))
		require.Equal(r, []int64{before, before, before + 1}, []int64{now.Since(), past.Since(), future.Since()})
		time.Sleep(time.Second) // the past is told late
		after := []int64{r.put("k"), r.put("k")}
		r.tells(now, after...)
		r.tells(past, append([]int64{before}, after...)...)
		r.tells(future, after[1])
	})
}

// trap A7
func TestACompactedWatchEndsAndNoOther(t *testing.T) {
	simulate(t, func(r *rig) {
		other := r.open("k")
		past := r.put("k")
		r.Compact(r.put("k"))
		w := r.open("k", clientv3.WithRev(past))
		time.Sleep(time.Second)
		r.over(w)
		r.tells(other, past, past+1)
		r.streams(1, 1)
	})
}

// etcd keeps a watch whose revisions were compacted until the client cancels it. The fleet's schedules 96 and 101 ended
// with such watches. // report E13
func TestACompactedWatchIsCancelledInEtcdToo(t *testing.T) {
	simulate(t, func(r *rig) {
		other := r.open("k")
		past := r.put("k")
		r.Compact(r.put("k"))
		for range 10 {
			r.over(r.open("k", clientv3.WithRev(past)))
		}
		require.Equal(r, []string{"k"}, r.client.Open().Keys)
		other.Stop()
		settle()
		require.Empty(r, r.client.Open().Keys)
	})
}

func TestAWatchThatEtcdCancelsEnds(t *testing.T) {
	simulate(t, func(r *rig) {
		w := r.open("k")
		r.CancelWatches("for no reason")
		r.over(w)
		r.tells(r.open("k"), r.put("k"))
	})
}

func TestWhatAReaderHasNotTakenYetIsToldTogetherAndInOrder(t *testing.T) {
	simulate(t, func(r *rig) {
		w := r.open("k")
		var revs []int64
		for range most {
			revs = append(revs, r.put("k"))
		}
		settle()
		resp := <-w.Events()
		require.Equal(r, revs[most-1], resp.Header.Revision)
		for i, ev := range resp.Events {
			require.Equal(r, revs[i], ev.Kv.ModRevision)
		}
		require.Len(r, resp.Events, most)
		r.tells(w, r.put("k"))
	})
}

func TestASlowReaderLosesItsWatchAndNobodyElse(t *testing.T) {
	simulate(t, func(r *rig) {
		slow, other := r.open("k"), r.open("k")
		var revs []int64
		for range most + 1 {
			revs = append(revs, r.put("k"))
			got, ended := revisions(other)
			require.Equal(r, revs[len(revs)-1:], got)
			require.False(r, ended)
		}
		got, ended := revisions(slow)
		require.Equal(r, revs[:most], got, "with a hole")
		require.True(r, ended)
		require.Equal(r, 1, r.client.Count(simetcd.WatchCancel))
		r.tells(other, r.put("k"))
		slow.Stop()
	})
}

func TestABrokenStreamEndsItsWatchesAndTheNextOneOpensAnother(t *testing.T) {
	simulate(t, func(r *rig) {
		a, b := r.open("a"), r.open("b")
		told := r.put("a")
		settle()
		r.client.Reset()
		got, ended := revisions(a)
		require.Equal(r, []int64{told}, got)
		require.True(r, ended)
		r.over(b)
		a.Stop()
		r.tells(r.open("a"), r.put("a"))
		r.streams(2, 1)
	})
}

// A member that hangs says nothing: the next watch goes elsewhere, those that it has stay.
func TestAWatchThatIsNotAnsweredSendsTheNextOnesElsewhere(t *testing.T) {
	simulate(t, func(r *rig) {
		old := r.open("k")
		r.drop(simetcd.Watch)
		began := time.Now()
		require.Nil(r, r.Open(r.ctx, bound, "k"))
		require.Equal(r, bound, time.Since(began))
		r.Intercept(nil)
		next := r.open("k")
		r.streams(2, 2)
		rev := r.put("k")
		r.tells(old, rev)
		r.tells(next, rev)
		old.Stop()
		settle()
		r.streams(2, 1)
		r.tells(next, r.put("k"))
	})
}

func TestAWatchThatDoesNotTellSendsTheNextOnesElsewhere(t *testing.T) {
	simulate(t, func(r *rig) {
		silent, other := r.open("k"), r.open("k")
		silent.MoveOn()
		silent.MoveOn()
		silent.Stop()
		next := r.open("k")
		silent.MoveOn() // which is about the first stream
		r.open("k")
		r.streams(2, 2)
		rev := r.put("k")
		r.tells(other, rev)
		r.tells(next, rev)
	})
}

// However often a stream has to be left for another one, few are kept. report R8
func TestStreamsThatWereLeftAreFew(t *testing.T) {
	simulate(t, func(r *rig) {
		var kept []*Watch
		for range 20 {
			w := r.open("k")
			kept = append(kept, w)
			w.MoveOn()
		}
		r.streams(20, mostRetired)
		for _, w := range kept[:20-mostRetired] {
			r.over(w)
		}
		rev := r.put("k")
		for _, w := range kept[20-mostRetired:] {
			r.tells(w, rev)
		}
	})
}

// drop loses all requests of a kind.
func (r *rig) drop(kind simetcd.Kind) {
	r.Intercept(func(c simetcd.Call) simetcd.Action { return simetcd.Action{DropRequest: c.Kind == kind} })
}
