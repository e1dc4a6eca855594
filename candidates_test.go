package etcdlock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/wire"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// What Candidates tells of each entry: its place in the order in which they are to lead, its options, and which
// one the other observers call the leader.
func TestCandidatesTellPriorityTakeoverAndTheLeader(t *testing.T) {
	simulate(t, func(w *world) {
		sa := w.session("a")
		e := NewElection(sa, "e")
		all, err := e.Candidates(w.ctx)
		require.NoError(w, err)
		require.Empty(w, all)

		term := w.stands(e, "first").get()
		lease := w.GrantLease(time.Minute)
		w.PutKey("e/"+wire.Hex(lease), "by etcdctl", lease)
		b := w.stands(w.takingOver("b", 5, time.Hour), "second")
		c := w.stands(NewElection(w.session("c"), "e", WithPriority(-3)), "third")
		mutex := start(w, NewMutex(w.session("d", WithOwner("a job")), "e").Lock)
		w.pass(time.Second)

		all, err = e.Candidates(w.ctx)
		require.NoError(w, err)
		type told struct {
			value    string
			mode     Mode
			priority int
			takeover bool
			leading  bool
			holding  bool
		}
		var got []told
		for _, c := range all {
			value := c.Value
			if c.Mode == ModeExclusive {
				value = c.Owner
			}
			require.Equal(w, c.Value, string(c.QueueEntry.Value))
			got = append(got, told{value, c.Mode, c.Priority, c.Takeover, c.Leading, c.Holding})
		}
		require.Equal(w, []told{
			{"first", ModeCandidate, 0, false, true, true},
			{"second", ModeCandidate, 5, true, false, false},
			{"by etcdctl", ModeCandidate, 0, false, false, false},
			{"a job", ModeExclusive, 0, false, false, false},
			{"third", ModeCandidate, -3, false, false, false},
		}, got)
		leader, err := e.Leader(w.ctx)
		require.NoError(w, err)
		require.Equal(w, leader.CreateRevision, all[0].CreateRevision)
		require.Equal(w, []any{term.Key(), sa.Lease()}, []any{all[0].Key, all[0].Lease})

		entries, err := e.Queue(w.ctx)
		require.NoError(w, err)
		var ages []string
		for _, e := range entries {
			ages = append(ages, e.Key)
		}
		require.Equal(w, []string{all[0].Key, all[2].Key, all[1].Key, all[4].Key, all[3].Key}, ages, "by age")
		require.Equal(w, all[0].QueueEntry, entries[0])

		w.DeleteKey("e/" + wire.Hex(lease))
		require.NoError(w, term.Resign(w.ctx))
		require.NoError(w, b.get().Resign(w.ctx))
		held := mutex.get()
		all, err = e.Candidates(w.ctx)
		require.NoError(w, err)
		require.True(w, all[0].Leading && all[0].Mode == ModeExclusive, "observers take it for the leader, too")
		require.NoError(w, held.Unlock(w.ctx))
		require.NoError(w, c.get().Resign(w.ctx))
	})
}

// The candidate that AwaitPreemption returns says why it may preempt: its priority, and that it takes over.
func TestAwaitPreemptionTellsPriorityAndTakeover(t *testing.T) {
	simulate(t, func(w *world) {
		term := w.stands(w.takingOver("a", 0, 0), "a").get()
		b := w.takingOver("b", 7, 0)
		next := w.stands(b, "b")
		c, err := term.AwaitPreemption(w.ctx)
		require.NoError(w, err)
		require.Equal(w, []any{"b", 7, true, false, false, b.session.Lease()},
			[]any{c.Value, c.Priority, c.Takeover, c.Leading, c.Holding, c.Lease})
		require.NoError(w, term.Resign(w.ctx))
		require.NoError(w, next.get().Resign(w.ctx))
	})
}

func TestCandidatesOfAnElectionThatIsNotUsable(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		_, err := NewElection(s, "no/").Candidates(w.ctx)
		require.ErrorIs(w, err, ErrInvalidName)
		_, err = NewElection(s, "no/").Queue(w.ctx)
		require.ErrorIs(w, err, ErrInvalidName)
		w.PutKey("e/stray", "", clientv3.NoLease)
		all, err := NewElection(s, "e").Candidates(w.ctx)
		require.NoError(w, err)
		require.True(w, all[0].Leading && all[0].stray(), "it keeps everybody out until it is deleted")
		require.NoError(w, s.Close(w.ctx))
		_, err = NewElection(s, "e").Candidates(w.ctx)
		require.ErrorIs(w, err, ErrSessionClosed)
	})
}
