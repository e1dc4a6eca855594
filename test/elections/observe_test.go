package elections

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/test/internal/cluster"
)

// trap B8, B9
func TestAnObserverSeesEveryLeaderEveryValueAndEveryVacancy(t *testing.T) {
	f := newFixture(t)
	s := f.Session(f.Client(), cluster.LongTTL)
	e := etcdlock.NewElection(s, "election")
	early, _ := f.Observe(f.Ctx(), etcdlock.NewElection(f.Session(f.Client(), cluster.LongTTL), "election"))
	require.Equal(t, cluster.Vacancy, cluster.NextValue(t, early), "the present state comes first")

	term, err := e.Campaign(f.Ctx(), "a")
	require.NoError(t, err)
	require.Equal(t, "a", cluster.NextValue(t, early))
	late, _ := f.Observe(f.Ctx(), e)
	require.Equal(t, "a", cluster.NextValue(t, late))

	require.NoError(t, term.Proclaim(f.Ctx(), "a2"))
	waiting := cluster.CampaignInBackground(f.Ctx(), etcdlock.NewElection(f.Session(f.Client(), cluster.LongTTL), "election"), "b")
	f.WaitForKeys("election", 2)
	require.NoError(t, term.Resign(f.Ctx()))
	second := cluster.Granted(t, waiting).Handle
	for _, leaders := range []<-chan etcdlock.Leader{early, late} {
		require.Equal(t, "a2", cluster.NextValue(t, leaders))
		require.Equal(t, "b", cluster.NextValue(t, leaders))
	}
	require.NoError(t, second.Resign(f.Ctx()))
	require.Equal(t, cluster.Vacancy, cluster.NextValue(t, early))
	require.Equal(t, cluster.Vacancy, cluster.NextValue(t, late))
}

// An observer needs no term of its own, and a name beside the election's is
// another election.
func TestAnObserverSeesNothingOfItsNeighbours(t *testing.T) {
	f := newFixture(t)
	s := f.Session(f.Client(), cluster.LongTTL)
	leaders, _ := f.Observe(f.Ctx(), etcdlock.NewElection(s, "a"))
	require.Equal(t, cluster.Vacancy, cluster.NextValue(t, leaders))
	for _, name := range []string{"a0", "a-", "ab"} {
		term, err := etcdlock.NewElection(s, name).Campaign(f.Ctx(), name)
		require.NoError(t, err)
		require.NoError(t, term.Resign(f.Ctx()))
	}
	term, err := etcdlock.NewElection(s, "a").Campaign(f.Ctx(), "a")
	require.NoError(t, err)
	require.Equal(t, "a", cluster.NextValue(t, leaders))
	require.NoError(t, term.Resign(f.Ctx()))
}

// trap B7
func TestAnObserverGoesOnOverACompaction(t *testing.T) {
	f := newFixture(t)
	c, proxy := f.Proxied()
	leaders, _ := f.Observe(f.Ctx(), etcdlock.NewElection(f.Session(c, cluster.LongTTL), "election"))
	require.Equal(t, cluster.Vacancy, cluster.NextValue(t, leaders))

	// While the observer is cut off its revision is compacted away.
	proxy.Refuse()
	proxy.Drop()
	e := etcdlock.NewElection(f.Session(f.Client(), cluster.LongTTL), "election")
	for _, value := range []string{"a", "b", "c"} {
		term, err := e.Campaign(f.Ctx(), value)
		require.NoError(t, err)
		require.NoError(t, term.Resign(f.Ctx()))
	}
	term, err := e.Campaign(f.Ctx(), "d")
	require.NoError(t, err)
	_, err = f.Admin.Compact(f.Ctx(), f.Revision(), clientv3.WithCompactPhysical())
	require.NoError(t, err)
	proxy.Resume()
	for cluster.NextValue(t, leaders) != "d" { // what lay before may be missed
	}
	require.NoError(t, term.Proclaim(f.Ctx(), "d2"))
	require.Equal(t, "d2", cluster.NextValue(t, leaders))
	require.NoError(t, term.Resign(f.Ctx()))
}

// trap B7
func TestAnObserverGoesOnWhileMembersAreRestarted(t *testing.T) {
	f := newFixture(t)
	leaders, _ := f.Observe(f.Ctx(), etcdlock.NewElection(f.Session(f.Client(), cluster.LongTTL), "election"))
	require.Equal(t, cluster.Vacancy, cluster.NextValue(t, leaders))
	term, err := etcdlock.NewElection(f.Session(f.Client(), cluster.LongTTL), "election").Campaign(f.Ctx(), "start")
	require.NoError(t, err)
	require.Equal(t, "start", cluster.NextValue(t, leaders))
	for i, value := range []string{"m0", "m1", "m2"} {
		f.Stop(i)
		f.Cluster.WaitLeader(t) // what is proclaimed right after a raft leader's death takes 3 s
		require.NoError(t, term.Proclaim(f.Ctx(), value))
		require.Equal(t, value, cluster.NextValue(t, leaders))
		f.Restart(i)
	}
	require.NoError(t, term.Resign(f.Ctx()))
	require.Equal(t, cluster.Vacancy, cluster.NextValue(t, leaders))
}

func TestAnObservationEndsWithItsContextOrWithAnError(t *testing.T) {
	f := newFixture(t)
	s := f.Session(f.Client(), cluster.LongTTL)
	e := etcdlock.NewElection(s, "election")
	ctx, cancel := context.WithCancel(f.Ctx())
	leaders, end := f.Observe(ctx, e)
	require.Equal(t, cluster.Vacancy, cluster.NextValue(t, leaders))
	cancel()
	require.NoError(t, cluster.Receive(t, end, "the end by the context"))

	leaders, end = f.Observe(f.Ctx(), e)
	require.Equal(t, cluster.Vacancy, cluster.NextValue(t, leaders))
	require.NoError(t, s.Close(f.Ctx()))
	require.ErrorIs(t, cluster.Receive(t, end, "the end by Close"), etcdlock.ErrSessionClosed)
	for _, err := range e.Observe(f.Ctx()) {
		require.ErrorIs(t, err, etcdlock.ErrSessionClosed)
		break // breaking out must end it, too
	}
}
