package elections

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/test/internal/cluster"
)

func TestALeaderIsElectedAndItsValueCanBeReadByAnyone(t *testing.T) {
	f := newFixture(t)
	e := etcdlock.NewElection(f.Session(f.Client(), cluster.LongTTL), "election")
	_, err := e.Leader(f.Ctx())
	require.ErrorIs(t, err, etcdlock.ErrNoLeader)

	value := "host-a \x00\xff{}" // byte for byte
	term, err := e.Campaign(f.Ctx(), value)
	require.NoError(t, err)
	require.Equal(t, value, term.Value())
	other := etcdlock.NewElection(f.Session(f.Client(), cluster.LongTTL), "election")
	leader, err := other.Leader(f.Ctx())
	require.NoError(t, err)
	require.Equal(t, value, leader.Value)
	require.Equal(t, term.Key(), leader.Key)
	require.Equal(t, term.Token(), leader.CreateRevision)
	require.False(t, leader.Vacant())

	require.NoError(t, term.Proclaim(f.Ctx(), "host-a:8080"))
	require.Equal(t, "host-a:8080", term.Value())
	proclaimed, err := other.Leader(f.Ctx())
	require.NoError(t, err)
	require.Equal(t, "host-a:8080", proclaimed.Value)
	require.Equal(t, leader.CreateRevision, proclaimed.CreateRevision, "the place must stay")

	require.NoError(t, term.Resign(f.Ctx()))
	_, err = other.Leader(f.Ctx())
	require.ErrorIs(t, err, etcdlock.ErrNoLeader)
	require.ErrorIs(t, term.Resign(f.Ctx()), etcdlock.ErrReleased)
	require.ErrorIs(t, term.Proclaim(f.Ctx(), "late"), etcdlock.ErrReleased) // trap B5
	require.Empty(t, f.Keys("election"))
}

func TestTheNextCandidateLeadsAfterResign(t *testing.T) {
	f := newFixture(t)
	term, err := etcdlock.NewElection(f.Session(f.Client(), cluster.LongTTL), "election").Campaign(f.Ctx(), "a")
	require.NoError(t, err)
	b := cluster.CampaignInBackground(f.Ctx(), etcdlock.NewElection(f.Session(f.Client(), cluster.LongTTL), "election"), "b")
	f.WaitForKeys("election", 2)
	c := cluster.CampaignInBackground(f.Ctx(), etcdlock.NewElection(f.Session(f.Client(), cluster.LongTTL), "election"), "c")
	f.WaitForKeys("election", 3)
	cluster.StillWaiting(t, b, 50*time.Millisecond)

	require.NoError(t, term.Resign(f.Ctx()))
	second := cluster.Granted(t, b).Handle
	require.Greater(t, second.Token(), term.Token())
	cluster.StillWaiting(t, c, 50*time.Millisecond)
	require.NoError(t, second.Resign(f.Ctx()))
	third := cluster.Granted(t, c).Handle
	require.Greater(t, third.Token(), second.Token())
	require.NoError(t, third.Resign(f.Ctx()))
}

// trap B1, C5, C9
func TestALeaderWhoseLeaseWasRevokedIsToldAndCanCampaignAgain(t *testing.T) {
	f := newFixture(t)
	s := f.Session(f.Client(), cluster.LongTTL)
	e := etcdlock.NewElection(s, "election")
	term, err := e.Campaign(f.Ctx(), "a")
	require.NoError(t, err)
	next := cluster.CampaignInBackground(f.Ctx(), etcdlock.NewElection(f.Session(f.Client(), cluster.LongTTL), "election"), "b")
	f.WaitForKeys("election", 2)

	f.Revoke(s.Lease())
	second := cluster.Granted(t, next).Handle
	cluster.Receive(t, term.Done(), "the end of the term")
	cluster.AssertLost(t, term.Err(), etcdlock.ErrRevoked)
	cluster.AssertLost(t, context.Cause(term.Context()), etcdlock.ErrRevoked)
	cluster.AssertLost(t, term.Proclaim(f.Ctx(), "late"), etcdlock.ErrRevoked)
	cluster.AssertLost(t, term.Resign(f.Ctx()), etcdlock.ErrRevoked) // trap B6
	require.Equal(t, "b", f.Get(second.Key()))

	again := cluster.CampaignInBackground(f.Ctx(), e, "a again")
	f.WaitForKeys("election", 2)
	require.NoError(t, second.Resign(f.Ctx()))
	third := cluster.Granted(t, again).Handle
	require.Greater(t, third.Token(), second.Token())
	require.NoError(t, third.Resign(f.Ctx()))
}

func TestTheLeaderIsOverthrownWhenItsConnectionIsCutAndKnowsItBefore(t *testing.T) {
	f := newFixture(t)
	const ttl = 3 * time.Second
	c, proxy := f.Proxied()
	term, err := etcdlock.NewElection(f.Session(c, ttl), "election").Campaign(f.Ctx(), "a")
	require.NoError(t, err)
	next := cluster.CampaignAfter(f.Ctx(), etcdlock.NewElection(f.Session(f.Client(), cluster.LongTTL), "election"), "b", term)
	f.WaitForKeys("election", 2)

	ended := cluster.MomentOf(term.Done())
	cut := time.Now()
	proxy.Refuse()
	proxy.Drop()
	second := cluster.Granted(t, next)
	end := cluster.Receive(t, ended, "the end of the term")
	t.Logf("figure: cut to next leader %v, told %v before", second.At.Sub(cut), second.At.Sub(end))
	require.Less(t, second.At.Sub(cut), ttl+cluster.ExpirySlack)
	cluster.AssertLost(t, term.Err(), etcdlock.ErrExpired)
	require.Greater(t, second.Handle.Token(), term.Token())

	proxy.Resume()
	require.NoError(t, second.Handle.Resign(f.Ctx()))
}

// An adopted lease continues with its own key, not with a key under a name that begins alike.
// trap B11
func TestAnElectionOnALeaseThatWasTakenOverGoesOnWithItsOwnKey(t *testing.T) {
	f := newFixture(t)
	neighbour, err := etcdlock.NewElection(f.Session(f.Client(), cluster.LongTTL), "election-b").Campaign(f.Ctx(), "b")
	require.NoError(t, err)
	first := f.Session(f.Client(), cluster.LongTTL)
	term, err := etcdlock.NewElection(first, "election").Campaign(f.Ctx(), "a")
	require.NoError(t, err)
	lease, err := first.Orphan(f.Ctx())
	require.NoError(t, err)
	second, err := etcdlock.NewSession(f.Ctx(), f.Client(), etcdlock.WithLease(lease))
	require.NoError(t, err)
	f.CloseAtEnd(second)
	e := etcdlock.NewElection(second, "election")
	leader, err := e.Leader(f.Ctx())
	require.NoError(t, err)
	require.Equal(t, "a", leader.Value)
	again, err := e.Campaign(f.Ctx(), "a again")
	require.NoError(t, err)
	require.Equal(t, term.Key(), again.Key())
	require.Greater(t, again.Token(), term.Token())
	require.Equal(t, "a again", f.Get(again.Key()))
	require.NoError(t, again.Resign(f.Ctx()))
	require.NoError(t, neighbour.Err())
	require.NoError(t, neighbour.Resign(f.Ctx()))
}

// trap B4
func TestResignWithoutAConnectionIsMadeUpForWhenItIsBack(t *testing.T) {
	f := newFixture(t)
	c, proxy := f.Proxied()
	s := f.Session(c, cluster.LongTTL)
	lease := s.Lease()
	term, err := etcdlock.NewElection(s, "election").Campaign(f.Ctx(), "a")
	require.NoError(t, err)
	proxy.Hold()
	start := time.Now()
	err = term.Resign(f.Within(300 * time.Millisecond))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, time.Since(start), 10*time.Second)
	require.ErrorIs(t, term.Err(), etcdlock.ErrReleased, "locally it is over at once")
	require.Len(t, f.Keys("election"), 1)
	proxy.Resume()
	f.WaitForKeys("election", 0)
	require.Equal(t, lease, s.Lease(), "by the delete, not by the lease's end")
}
