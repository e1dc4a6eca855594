package test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
)

const vacancy = "(vacant)"

// observe follows an election; the channel is closed at the end, whose error, if
// any, is sent to the second one.
func (f *fixture) observe(ctx context.Context, e *etcdlock.Election) (<-chan etcdlock.Leader, <-chan error) {
	leaders, end := make(chan etcdlock.Leader, 100), make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	f.t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		defer close(leaders)
		for leader, err := range e.Observe(ctx) {
			if err != nil {
				end <- err
				return
			}
			leaders <- leader
		}
		end <- nil
	}()
	return leaders, end
}

// nextValue is the value of the next observation.
func nextValue(t *testing.T, leaders <-chan etcdlock.Leader) string {
	t.Helper()
	l := receive(t, leaders, "an observation")
	if l.Vacant() {
		return vacancy
	}
	assert.NotEmpty(t, l.Key)
	assert.Positive(t, l.CreateRevision)
	return l.Value
}

// trap B8, B9
func TestAnObserverSeesEveryLeaderEveryValueAndEveryVacancy(t *testing.T) {
	f := newFixture(t)
	s := f.session(f.client(), 3*time.Second)
	e := etcdlock.NewElection(s, "election")
	early, _ := f.observe(f.ctx(), etcdlock.NewElection(f.session(f.client(), 3*time.Second), "election"))
	require.Equal(t, vacancy, nextValue(t, early), "the present state comes first")

	term, err := e.Campaign(f.ctx(), "a")
	require.NoError(t, err)
	require.Equal(t, "a", nextValue(t, early))
	late, _ := f.observe(f.ctx(), e)
	require.Equal(t, "a", nextValue(t, late))

	require.NoError(t, term.Proclaim(f.ctx(), "a2"))
	waiting := campaignInBackground(f.ctx(), etcdlock.NewElection(f.session(f.client(), 3*time.Second), "election"), "b")
	f.waitForKeys("election", 2)
	require.NoError(t, term.Resign(f.ctx()))
	second := granted(t, waiting).handle
	for _, leaders := range []<-chan etcdlock.Leader{early, late} {
		require.Equal(t, "a2", nextValue(t, leaders))
		require.Equal(t, "b", nextValue(t, leaders))
	}
	require.NoError(t, second.Resign(f.ctx()))
	require.Equal(t, vacancy, nextValue(t, early))
	require.Equal(t, vacancy, nextValue(t, late))
}

// An observer needs no term of its own, and a name beside the election's is
// another election.
func TestAnObserverSeesNothingOfItsNeighbours(t *testing.T) {
	f := newFixture(t)
	s := f.session(f.client(), 3*time.Second)
	leaders, _ := f.observe(f.ctx(), etcdlock.NewElection(s, "a"))
	require.Equal(t, vacancy, nextValue(t, leaders))
	for _, name := range []string{"a0", "a-", "ab"} {
		term, err := etcdlock.NewElection(s, name).Campaign(f.ctx(), name)
		require.NoError(t, err)
		require.NoError(t, term.Resign(f.ctx()))
	}
	term, err := etcdlock.NewElection(s, "a").Campaign(f.ctx(), "a")
	require.NoError(t, err)
	require.Equal(t, "a", nextValue(t, leaders))
	require.NoError(t, term.Resign(f.ctx()))
}

// trap B7
func TestAnObserverGoesOnOverACompaction(t *testing.T) {
	f := newFixture(t)
	c, proxy := f.proxied()
	leaders, _ := f.observe(f.ctx(), etcdlock.NewElection(f.session(c, 10*time.Second), "election"))
	require.Equal(t, vacancy, nextValue(t, leaders))

	// While the observer is cut off its revision is compacted away.
	proxy.Refuse()
	proxy.Drop()
	e := etcdlock.NewElection(f.session(f.client(), 3*time.Second), "election")
	for _, value := range []string{"a", "b", "c"} {
		term, err := e.Campaign(f.ctx(), value)
		require.NoError(t, err)
		require.NoError(t, term.Resign(f.ctx()))
	}
	term, err := e.Campaign(f.ctx(), "d")
	require.NoError(t, err)
	_, err = f.admin.Compact(f.ctx(), f.revision(), clientv3.WithCompactPhysical())
	require.NoError(t, err)
	proxy.Resume()
	for nextValue(t, leaders) != "d" { // what lay before may be missed
	}
	require.NoError(t, term.Proclaim(f.ctx(), "d2"))
	require.Equal(t, "d2", nextValue(t, leaders))
	require.NoError(t, term.Resign(f.ctx()))
}

// trap B7
func TestAnObserverGoesOnWhileMembersAreRestarted(t *testing.T) {
	f := newFixture(t)
	leaders, _ := f.observe(f.ctx(), etcdlock.NewElection(f.session(f.client(), 10*time.Second), "election"))
	require.Equal(t, vacancy, nextValue(t, leaders))
	term, err := etcdlock.NewElection(f.session(f.client(), 10*time.Second), "election").Campaign(f.ctx(), "start")
	require.NoError(t, err)
	require.Equal(t, "start", nextValue(t, leaders))
	for i, value := range []string{"m0", "m1", "m2"} {
		f.stop(i)
		f.cluster.WaitLeader(t) // what is proclaimed right after a raft leader's death takes 3 s
		require.NoError(t, term.Proclaim(f.ctx(), value))
		require.Equal(t, value, nextValue(t, leaders))
		f.restart(i)
	}
	require.NoError(t, term.Resign(f.ctx()))
	require.Equal(t, vacancy, nextValue(t, leaders))
}

func TestAnObservationEndsWithItsContextOrWithAnError(t *testing.T) {
	f := newFixture(t)
	s := f.session(f.client(), 3*time.Second)
	e := etcdlock.NewElection(s, "election")
	ctx, cancel := context.WithCancel(f.ctx())
	leaders, end := f.observe(ctx, e)
	require.Equal(t, vacancy, nextValue(t, leaders))
	cancel()
	require.NoError(t, receive(t, end, "the end by the context"))

	leaders, end = f.observe(f.ctx(), e)
	require.Equal(t, vacancy, nextValue(t, leaders))
	require.NoError(t, s.Close(f.ctx()))
	require.ErrorIs(t, receive(t, end, "the end by Close"), etcdlock.ErrSessionClosed)
	for _, err := range e.Observe(f.ctx()) {
		require.ErrorIs(t, err, etcdlock.ErrSessionClosed)
		break // breaking out must end it, too
	}
}
