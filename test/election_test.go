package test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
)

func TestALeaderIsElectedAndItsValueCanBeReadByAnyone(t *testing.T) {
	f := newFixture(t)
	e := etcdlock.NewElection(f.session(f.client(), 3*time.Second), "election")
	_, err := e.Leader(f.ctx())
	require.ErrorIs(t, err, etcdlock.ErrNoLeader)

	value := "host-a \x00\xff{}" // byte for byte
	term, err := e.Campaign(f.ctx(), value)
	require.NoError(t, err)
	require.Equal(t, value, term.Value())
	other := etcdlock.NewElection(f.session(f.client(), 3*time.Second), "election")
	leader, err := other.Leader(f.ctx())
	require.NoError(t, err)
	require.Equal(t, value, leader.Value)
	require.Equal(t, term.Key(), leader.Key)
	require.Equal(t, term.Token(), leader.CreateRevision)
	require.False(t, leader.Vacant())

	require.NoError(t, term.Proclaim(f.ctx(), "host-a:8080"))
	require.Equal(t, "host-a:8080", term.Value())
	proclaimed, err := other.Leader(f.ctx())
	require.NoError(t, err)
	require.Equal(t, "host-a:8080", proclaimed.Value)
	require.Equal(t, leader.CreateRevision, proclaimed.CreateRevision, "the place must stay")

	require.NoError(t, term.Resign(f.ctx()))
	_, err = other.Leader(f.ctx())
	require.ErrorIs(t, err, etcdlock.ErrNoLeader)
	require.ErrorIs(t, term.Resign(f.ctx()), etcdlock.ErrReleased)
	require.ErrorIs(t, term.Proclaim(f.ctx(), "late"), etcdlock.ErrReleased) // trap B5
	require.Empty(t, f.keys("election"))
}

func TestTheNextCandidateLeadsAfterResign(t *testing.T) {
	f := newFixture(t)
	term, err := etcdlock.NewElection(f.session(f.client(), 3*time.Second), "election").Campaign(f.ctx(), "a")
	require.NoError(t, err)
	b := campaignInBackground(f.ctx(), etcdlock.NewElection(f.session(f.client(), 3*time.Second), "election"), "b")
	f.waitForKeys("election", 2)
	c := campaignInBackground(f.ctx(), etcdlock.NewElection(f.session(f.client(), 3*time.Second), "election"), "c")
	f.waitForKeys("election", 3)
	stillWaiting(t, b, 50*time.Millisecond)

	require.NoError(t, term.Resign(f.ctx()))
	second := granted(t, b).handle
	require.Greater(t, second.Token(), term.Token())
	stillWaiting(t, c, 50*time.Millisecond)
	require.NoError(t, second.Resign(f.ctx()))
	third := granted(t, c).handle
	require.Greater(t, third.Token(), second.Token())
	require.NoError(t, third.Resign(f.ctx()))
}

// trap B1, C5, C9
func TestALeaderWhoseLeaseWasRevokedIsToldAndCanCampaignAgain(t *testing.T) {
	f := newFixture(t)
	s := f.session(f.client(), 3*time.Second)
	e := etcdlock.NewElection(s, "election")
	term, err := e.Campaign(f.ctx(), "a")
	require.NoError(t, err)
	next := campaignInBackground(f.ctx(), etcdlock.NewElection(f.session(f.client(), 3*time.Second), "election"), "b")
	f.waitForKeys("election", 2)

	f.revoke(s.Lease())
	second := granted(t, next).handle
	receive(t, term.Done(), "the end of the term")
	assertLost(t, term.Err(), etcdlock.ErrRevoked)
	assertLost(t, context.Cause(term.Context()), etcdlock.ErrRevoked)
	assertLost(t, term.Proclaim(f.ctx(), "late"), etcdlock.ErrRevoked)
	assertLost(t, term.Resign(f.ctx()), etcdlock.ErrRevoked) // trap B6
	require.Equal(t, "b", f.get(second.Key()))

	again := campaignInBackground(f.ctx(), e, "a again")
	f.waitForKeys("election", 2)
	require.NoError(t, second.Resign(f.ctx()))
	third := granted(t, again).handle
	require.Greater(t, third.Token(), second.Token())
	require.NoError(t, third.Resign(f.ctx()))
}

func TestTheLeaderIsOverthrownWhenItsConnectionIsCutAndKnowsItBefore(t *testing.T) {
	f := newFixture(t)
	const ttl = 2 * time.Second
	c, proxy := f.proxied()
	term, err := etcdlock.NewElection(f.session(c, ttl), "election").Campaign(f.ctx(), "a")
	require.NoError(t, err)
	next := campaignInBackground(f.ctx(), etcdlock.NewElection(f.session(f.client(), ttl), "election"), "b")
	f.waitForKeys("election", 2)

	ended := momentOf(term.Done())
	cut := time.Now()
	proxy.Refuse()
	proxy.Drop()
	second := granted(t, next)
	end := receive(t, ended, "the end of the term")
	t.Logf("figure: cut to next leader %v, told %v before", second.at.Sub(cut), second.at.Sub(end))
	require.Positive(t, second.at.Sub(end), "the old leader was told too late")
	require.Less(t, second.at.Sub(cut), ttl+expirySlack)
	assertLost(t, term.Err(), etcdlock.ErrExpired)
	require.Greater(t, second.handle.Token(), term.Token())

	proxy.Resume()
	require.NoError(t, second.handle.Resign(f.ctx()))
}

// The place of a lease that was left behind is its own, and not that of whoever
// stands under a name that begins alike.
// trap B11
func TestAnElectionOnALeaseThatWasTakenOverGoesOnWithItsOwnKey(t *testing.T) {
	f := newFixture(t)
	neighbour, err := etcdlock.NewElection(f.session(f.client(), 3*time.Second), "election-b").Campaign(f.ctx(), "b")
	require.NoError(t, err)
	first := f.session(f.client(), 3*time.Second)
	term, err := etcdlock.NewElection(first, "election").Campaign(f.ctx(), "a")
	require.NoError(t, err)
	lease, err := first.Orphan(f.ctx())
	require.NoError(t, err)
	second, err := etcdlock.NewSession(f.ctx(), f.client(), etcdlock.WithLease(lease))
	require.NoError(t, err)
	f.closeAtEnd(second)
	e := etcdlock.NewElection(second, "election")
	leader, err := e.Leader(f.ctx())
	require.NoError(t, err)
	require.Equal(t, "a", leader.Value)
	again, err := e.Campaign(f.ctx(), "a again")
	require.NoError(t, err)
	require.Equal(t, term.Key(), again.Key())
	require.Greater(t, again.Token(), term.Token())
	require.Equal(t, "a again", f.get(again.Key()))
	require.NoError(t, again.Resign(f.ctx()))
	require.NoError(t, neighbour.Err())
	require.NoError(t, neighbour.Resign(f.ctx()))
}

// trap B4
func TestResignWithoutAConnectionIsMadeUpForWhenItIsBack(t *testing.T) {
	f := newFixture(t)
	c, proxy := f.proxied()
	s := f.session(c, 5*time.Second)
	lease := s.Lease()
	term, err := etcdlock.NewElection(s, "election").Campaign(f.ctx(), "a")
	require.NoError(t, err)
	proxy.Hold()
	start := time.Now()
	err = term.Resign(f.within(300 * time.Millisecond))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, time.Since(start), time.Second)
	require.ErrorIs(t, term.Err(), etcdlock.ErrReleased, "locally it is over at once")
	require.Len(t, f.keys("election"), 1)
	proxy.Resume()
	f.waitForKeys("election", 0)
	require.Equal(t, lease, s.Lease(), "by the delete, not by the lease's end")
}
