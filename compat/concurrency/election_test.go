package concurrency

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	v3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func hexOf(s *Session) string { return strconv.FormatInt(int64(s.Lease()), 16) }

// campaign is a call of Campaign with a value.
func campaign(e *Election, val string) func(context.Context) error {
	return func(ctx context.Context) error { return e.Campaign(ctx, val) }
}

// leader is the value of the leader.
func (w *world) leader(e *Election) string {
	w.Helper()
	resp, err := e.Leader(w.ctx)
	require.NoError(w, err)
	require.Len(w, resp.Kvs, 1)
	return string(resp.Kvs[0].Value)
}

func TestAnElectionGoesFromSessionToSession(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewElection(w.session("a"), "e"), NewElection(w.session("b"), "e")
		_, err := a.Leader(w.ctx)
		require.True(w, err == ErrElectionNoLeader)                     //nolint:errorlint // programs compare so
		require.True(w, a.Proclaim(w.ctx, "x") == ErrElectionNotLeader) //nolint:errorlint // programs compare so
		require.NoError(w, a.Resign(w.ctx), "nothing to resign from")
		require.Empty(w, a.Key())

		require.NoError(w, a.Campaign(w.ctx, "a1"))
		require.Equal(w, "a1", w.leader(b))
		kv := w.Keys("e/")[0]
		require.Equal(w, string(kv.Key), a.Key())
		require.Equal(w, kv.CreateRevision, a.Rev())
		require.Equal(w, a.Rev(), a.Header().Revision)
		waiting := w.start(campaign(b, "b1"))
		require.NoError(w, a.Proclaim(w.ctx, "a2"))
		require.Equal(w, "a2", w.leader(b))
		waiting.isWaiting()
		require.ErrorIs(w, b.Proclaim(w.ctx, "no"), ErrElectionNotLeader)

		require.NoError(w, a.Resign(w.ctx))
		require.NoError(w, waiting.result())
		require.Equal(w, "b1", w.leader(a))
		require.Empty(w, a.Key())
		require.ErrorIs(w, a.Proclaim(w.ctx, "late"), ErrElectionNotLeader)
		require.NoError(w, a.Resign(w.ctx), "again")
		require.Greater(w, b.Header().Revision, a.Header().Revision)
		require.Equal(w, b.Rev(), b.Header().Revision)
		require.NotNil(w, b.Term())
		require.NoError(w, b.Resign(w.ctx))
		require.Empty(w, w.Keys(""))
	})
}

func TestASessionThatCampaignsAgainProclaims(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		e, e2 := NewElection(s, "e"), NewElection(s, "e")
		require.NoError(w, e.Campaign(w.ctx, "abc"))
		require.NoError(w, e2.Campaign(w.ctx, "def"))
		require.Equal(w, "def", w.leader(e))
		require.Equal(w, e.Key(), e2.Key())
		require.Equal(w, e.Rev(), e2.Rev())
		require.NoError(w, e.Campaign(w.ctx, "ghi"), "the same Election")
		require.Equal(w, "ghi", w.leader(e))
		require.NoError(w, e.Proclaim(w.ctx, "jkl"))

		require.NoError(w, e2.Resign(w.ctx))
		require.Empty(w, w.Keys(""))
		require.Empty(w, e.Key())
		require.ErrorIs(w, e.Proclaim(w.ctx, "late"), ErrElectionNotLeader)
		require.NoError(w, e.Resign(w.ctx), "it has resigned, through the other")
		require.Empty(w, s.terms.slots)
	})
}

// trap A3
func TestCampaignsOfOneSessionShareItsPlaceAndItsLeadership(t *testing.T) {
	simulate(t, func(w *world) {
		holder := NewElection(w.session("a"), "e")
		require.NoError(w, holder.Campaign(w.ctx, "holder"))
		s := w.session("b")
		first := w.start(campaign(NewElection(s, "e"), "first"))
		second := w.start(campaign(NewElection(s, "e"), "second"))
		third := w.start(campaign(NewElection(s, "e"), "third"))
		last := w.start(campaign(NewElection(w.session("c"), "e"), "last"))
		first.cancel()
		require.ErrorIs(w, first.result(), context.Canceled)
		require.NoError(w, holder.Resign(w.ctx))
		require.NoError(w, second.result())
		require.NoError(w, third.result())
		require.Contains(w, []string{"second", "third"}, w.leader(holder))
		last.isWaiting()
	})
}

// trap B1
func TestACampaignWhosePlaceIsLostFails(t *testing.T) {
	simulate(t, func(w *world) {
		holder := NewElection(w.session("a"), "e")
		require.NoError(w, holder.Campaign(w.ctx, "holder"))
		s := w.session("b")
		e := NewElection(s, "e")
		waiting := w.start(campaign(e, "x"))
		w.DeleteKey("e/" + hexOf(s))
		err := waiting.result()
		require.ErrorIs(w, err, ErrElectionNotLeader)
		require.ErrorIs(w, err, etcdlock.ErrEvicted)
		require.NoError(w, e.Resign(w.ctx))

		waiting = w.start(campaign(e, "x"))
		require.NoError(w, s.Close())
		require.ErrorIs(w, waiting.result(), ErrElectionNotLeader)
		require.NoError(w, holder.Resign(w.ctx))
	})
}

func TestALostLeadershipIsTold(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		e := NewElection(s, "e")
		require.NoError(w, e.Campaign(w.ctx, "x"))
		w.DeleteKey(e.Key())
		w.pass(time.Second)
		require.Empty(w, e.Key())
		require.True(w, e.Proclaim(w.ctx, "y") == ErrElectionNotLeader) //nolint:errorlint // programs compare so
		err := e.Resign(w.ctx)                                          // traps B5, B6
		require.ErrorIs(w, err, ErrElectionNotLeader)
		require.ErrorIs(w, err, etcdlock.ErrEvicted)
		require.NoError(w, e.Resign(w.ctx))

		require.NoError(w, e.Campaign(w.ctx, "again"))
		require.NoError(w, s.Close())
		require.NoError(w, e.Resign(w.ctx), "Close has resigned")
	})
}

// trap B4
func TestAResignWithoutAnAnswerCanBeRepeated(t *testing.T) {
	simulate(t, func(w *world) {
		c := w.Client("a")
		e := NewElection(w.session("a"), "e")
		require.NoError(w, e.Campaign(w.ctx, "x"))
		c.Cut()
		require.ErrorIs(w, e.Resign(w.timeout(time.Second)), context.DeadlineExceeded)
		require.Empty(w, e.Key(), "over here, at once")
		c.Heal()
		require.NoError(w, e.Resign(w.ctx))
		require.Empty(w, w.Keys(""))
	})
}

// trap B2
func TestACampaignWhoseAnswerIsLostLeavesNothing(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewElection(w.session("a"), "e"), NewElection(w.session("b"), "e")
		w.next("a", simetcd.Txn, simetcd.Action{DropReply: true})
		require.Error(w, a.Campaign(w.timeout(time.Second), "a"))
		require.NoError(w, b.Campaign(w.timeout(30*time.Second), "b"))
	})
}

// A process restarts within the TTL, and goes on to lead.
func TestASuccessorOnTheLeaseLeadsOn(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		e := NewElection(s, "e")
		require.NoError(w, e.Campaign(w.ctx, "abc"))
		waiting := w.start(campaign(NewElection(w.session("b"), "e"), "123"))

		// The old process may not even be gone.
		next := NewElection(w.session("c", WithLease(s.Lease())), "e")
		require.NoError(w, next.Campaign(w.timeout(5*time.Second), "def"))
		require.Equal(w, "def", w.leader(next))
		require.Equal(w, e.Rev(), next.Rev())
		waiting.isWaiting()

		s.Orphan()
		w.pass(time.Minute)
		require.Equal(w, "def", w.leader(next))
		waiting.isWaiting()
		require.NoError(w, next.Resign(w.ctx))
		require.NoError(w, waiting.result())
	})
}

func TestAnElectionIsResumed(t *testing.T) {
	simulate(t, func(w *world) {
		for _, pfx := range []string{"/resume/", "resume"} {
			s := w.session("a")
			e := NewElection(s, pfx)
			require.NoError(w, e.Campaign(w.ctx, "one"))
			key, rev := e.Key(), e.Rev()
			s.Orphan()
			require.ErrorIs(w, ResumeElection(s, pfx, key, rev).Proclaim(w.ctx, "x"), ErrElectionNotLeader)
			require.ErrorIs(w, ResumeElection(s, pfx, key, rev).Resign(w.ctx), ErrElectionNotLeader)

			s = w.session("b", WithLease(s.Lease()))
			for _, as := range []string{pfx, pfx + "/"} { // trap B11; the second is what etcd's package wants
				e = ResumeElection(s, as, key, rev)
				require.Equal(w, key, e.Key())
				require.Equal(w, rev, e.Rev())
				require.NoError(w, e.Proclaim(w.ctx, "two"))
				require.Equal(w, "two", w.leader(e))
				require.Equal(w, w.Revision(), e.Header().Revision)
			}
			require.ErrorIs(w, ResumeElection(s, pfx, key, rev+1).Proclaim(w.ctx, "x"), ErrElectionNotLeader)
			require.ErrorIs(w, ResumeElection(s, pfx, key, rev+1).Resign(w.ctx), ErrElectionNotLeader)
			require.NoError(w, e.Resign(w.ctx))
			require.Empty(w, w.Keys(pfx))
			require.NoError(w, e.Resign(w.ctx))
			require.ErrorIs(w, e.Proclaim(w.ctx, "x"), ErrElectionNotLeader)

			require.NoError(w, e.Campaign(w.ctx, "three"))
			require.Greater(w, e.Rev(), rev)
			require.NoError(w, s.Close())
		}
	})
}

func TestAnElectionIsResumedInTheSessionThatLeads(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		e := NewElection(s, "/e/")
		require.NoError(w, e.Campaign(w.ctx, "one"))
		resumed := ResumeElection(s, "/e/", e.Key(), e.Rev())
		require.NoError(w, resumed.Resign(w.ctx))
		require.NoError(w, resumed.Campaign(w.ctx, "two"))
		require.Empty(w, e.Key())
		require.NoError(w, e.Resign(w.ctx), "it was resigned, not lost")
		require.NoError(w, resumed.Resign(w.ctx))

		require.NoError(w, s.Close())
		require.ErrorIs(w, ResumeElection(s, "e", "e/1f", 1).Proclaim(w.ctx, "x"), ErrElectionNotLeader)
		require.NoError(w, ResumeElection(s, "e", "e/1f", 1).Resign(w.ctx), "Close has resigned")
	})
}

func TestObserveTellsEveryChange(t *testing.T) {
	simulate(t, func(w *world) {
		e := NewElection(w.session("a"), "e")
		ctx, cancel := context.WithCancel(w.ctx)
		observed := NewElection(w.session("b"), "e").Observe(ctx)
		w.pass(time.Second) // a vacancy is not told

		require.NoError(w, e.Campaign(w.ctx, "abc"))
		first := <-observed
		require.NoError(w, e.Proclaim(w.ctx, "def"))
		second := <-observed
		require.NoError(w, e.Proclaim(w.ctx, "ghi"))
		third := <-observed
		for i, resp := range []*v3.GetResponse{first, second, third} {
			require.Len(w, resp.Kvs, 1)
			require.Equal(w, []string{"abc", "def", "ghi"}[i], string(resp.Kvs[0].Value))
			require.EqualValues(w, i+1, resp.Kvs[0].Version)
			require.Equal(w, e.Rev(), resp.Kvs[0].CreateRevision)
			require.Equal(w, e.Key(), string(resp.Kvs[0].Key))
		}
		require.Less(w, first.Header.Revision, second.Header.Revision)
		require.Less(w, second.Header.Revision, third.Header.Revision)
		third.Kvs[0].Value[0] = 'x' // it is the caller's own
		require.Equal(w, "ghi", w.leader(e))

		require.NoError(w, e.Resign(w.ctx))
		require.NoError(w, e.Campaign(w.ctx, "next"))
		require.Equal(w, "next", string((<-observed).Kvs[0].Value))
		cancel()
		_, open := <-observed
		require.False(w, open)
	})
}

// trap B7
func TestObserveGoesOnOverCompactionsAndWithoutItsSession(t *testing.T) {
	simulate(t, func(w *world) {
		e := NewElection(w.session("a"), "e")
		require.NoError(w, e.Campaign(w.ctx, "one"))
		s := w.session("b")
		observed := NewElection(s, "e").Observe(w.ctx)
		require.Equal(w, "one", string((<-observed).Kvs[0].Value))
		s.Orphan()
		for _, next := range []string{"two", "three", "four"} {
			w.Client("b").Cut()
			require.NoError(w, e.Proclaim(w.ctx, next))
			w.PutKey("other", next, v3.NoLease)
			w.Compact(0)
			w.Client("b").Heal()
			require.Equal(w, next, string((<-observed).Kvs[0].Value))
			w.CancelWatches("for no reason")
		}
		require.NoError(w, w.Client("b").Close())
		select {
		case _, open := <-observed:
			require.False(w, open, "the client has ended")
		case <-time.After(time.Minute):
			require.FailNow(w, "it goes on without a client")
		}
	})
}

// A key of which the election's name is a beginning is not a candidate.
func TestANeighboursKeyIsNotInTheWay(t *testing.T) {
	simulate(t, func(w *world) {
		w.PutKey("testa", "value", v3.NoLease)
		require.NoError(w, NewElection(w.session("a"), "test").Campaign(w.timeout(time.Second), "abc"))
	})
}
