package sessions

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"
	etcd "go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/compat/concurrency"
	"github.com/etcdlock/etcdlock/test/internal/cluster"
)

// compatSession is a session of the package that has etcd's names.
func (f *fixture) compatSession(c *clientv3.Client, opts ...concurrency.SessionOption) *concurrency.Session {
	f.t.Helper()
	s, err := concurrency.NewSession(c, append([]concurrency.SessionOption{concurrency.WithTTL(3)}, opts...)...)
	require.NoError(f.t, err)
	f.t.Cleanup(func() { _ = s.Close() }) // its result is looked at by the tests of Close
	return s
}

// mutex is what both packages have.
type mutex interface {
	Lock(ctx context.Context) error
	Unlock(ctx context.Context) error
}

// The prefix is one of etcd's examples.
func TestAFleetMovesFromEtcdsPackageToCompat(t *testing.T) {
	f := newFixture(t)
	f.Put("counter", "0")
	const rounds, pfx = 8, "/my-lock/"
	var h cluster.History
	worker := func(c *clientv3.Client, session any, m mutex, token func() int64) func() error {
		return func() error {
			for range rounds {
				if err := m.Lock(f.Ctx()); err != nil {
					return err
				}
				end := h.Begin(f.Ctx().Err, session, token())
				if err := cluster.Raise(f.Ctx(), c, "counter"); err != nil {
					return err
				}
				end()
				if err := m.Unlock(f.Ctx()); err != nil {
					return err
				}
			}
			return nil
		}
	}
	var workers []func() error
	for range 2 {
		ours := f.compatSession(f.Client(), concurrency.WithTTL(15)) // not to be lost on a busy machine
		m := concurrency.NewMutex(ours, pfx)
		workers = append(workers, worker(ours.Client(), ours, m, func() int64 { return m.Header().Revision }))
		theirs, err := etcd.NewSession(f.Client(), etcd.WithTTL(15))
		require.NoError(t, err)
		t.Cleanup(func() { theirs.Close() })
		n := etcd.NewMutex(theirs, pfx)
		workers = append(workers, worker(theirs.Client(), theirs, n, func() int64 { return n.Header().Revision }))
	}
	cluster.All(t, workers...)
	h.AssertExclusive(t)
	require.Equal(t, strconv.Itoa(4*rounds), f.Get("counter"))
}

// The one before in line dies; the next one has still to wait for the holder.
func TestCompatWaitsForTheHolderWhenTheOneBeforeDies(t *testing.T) {
	f := newFixture(t)
	holder := concurrency.NewMutex(f.compatSession(f.Client()), "lock")
	require.NoError(t, holder.Lock(f.Ctx()))
	dying := f.compatSession(f.Client())
	victim := make(chan error, 1)
	go func() { victim <- concurrency.NewMutex(dying, "lock").Lock(f.Ctx()) }()
	f.WaitForKeys("lock", 2)
	last := concurrency.NewMutex(f.compatSession(f.Client()), "lock")
	locked := make(chan error, 1)
	go func() { locked <- last.Lock(f.Ctx()) }()
	f.WaitForKeys("lock", 3)

	require.NoError(t, dying.Close())
	require.ErrorIs(t, cluster.Receive(t, victim, "the victim"), concurrency.ErrSessionExpired)
	f.WaitForKeys("lock", 2)
	select {
	case err := <-locked:
		require.FailNow(t, "did not wait for the holder", "%v", err)
	case <-time.After(200 * time.Millisecond):
	}
	require.NoError(t, holder.Unlock(f.Ctx()))
	require.NoError(t, cluster.Receive(t, locked, "the last one"))
	require.NoError(t, last.Unlock(f.Ctx()))
}

// A leader restarts within its TTL, while the old process is not quite gone.
func TestCompatLeadsOnAfterARestart(t *testing.T) {
	f := newFixture(t)
	old := f.compatSession(f.Client())
	require.NoError(t, concurrency.NewElection(old, "election").Campaign(f.Ctx(), "before"))
	rival := concurrency.NewElection(f.compatSession(f.Client()), "election")
	elected := make(chan error, 1)
	go func() { elected <- rival.Campaign(f.Ctx(), "rival") }()
	f.WaitForKeys("election", 2)

	e := concurrency.NewElection(f.compatSession(f.Client(), concurrency.WithLease(old.Lease())), "election")
	require.NoError(t, e.Campaign(f.Within(5*time.Second), "after"))
	old.Orphan()
	observed := <-rival.Observe(f.Ctx())
	require.Equal(t, "after", string(observed.Kvs[0].Value))
	select {
	case err := <-elected:
		require.FailNow(t, "the rival was elected", "%v", err)
	case <-time.After(3500 * time.Millisecond): // more than the TTL
	}
	require.NoError(t, e.Resign(f.Ctx()))
	require.NoError(t, cluster.Receive(t, elected, "the rival"))
	require.NoError(t, rival.Resign(f.Ctx()))
}

// Each package observes, resumes and ends what the other has begun.
func TestBothPackagesShareAnElection(t *testing.T) {
	f := newFixture(t)
	ours := f.compatSession(f.Client())
	theirs := f.ForeignSession()
	a, b := concurrency.NewElection(ours, "/election/"), etcd.NewElection(theirs, "/election/")
	byUs, byThem := a.Observe(f.Ctx()), b.Observe(f.Ctx())
	told := func(value string) {
		t.Helper()
		for _, ch := range []<-chan *clientv3.GetResponse{byUs, byThem} {
			require.Equal(t, value, string(cluster.Receive(t, ch, value).Kvs[0].Value))
		}
	}
	require.NoError(t, a.Campaign(f.Ctx(), "ours"))
	told("ours")
	elected := make(chan error, 1)
	go func() { elected <- b.Campaign(f.Ctx(), "theirs") }()
	f.WaitForKeys("/election/", 2)
	require.NoError(t, a.Proclaim(f.Ctx(), "ours, again"))
	told("ours, again")
	rev := a.Rev()
	require.NoError(t, a.Resign(f.Ctx()))
	require.NoError(t, cluster.Receive(t, elected, "etcd's Election"))
	told("theirs")
	require.Greater(t, b.Rev(), rev)

	// Their leadership, resumed by us on their lease.
	heir := f.compatSession(f.Client(), concurrency.WithLease(theirs.Lease()))
	resumed := concurrency.ResumeElection(heir, "/election/", b.Key(), b.Rev())
	require.NoError(t, resumed.Proclaim(f.Ctx(), "resumed"))
	told("resumed")
	require.NoError(t, resumed.Resign(f.Ctx()))

	// And ours by them, with the slash that their package wants.
	require.NoError(t, a.Campaign(f.Ctx(), "ours, at last"))
	told("ours, at last")
	foreign := etcd.ResumeElection(theirs, "/election//", a.Key(), a.Rev())
	require.NoError(t, foreign.Resign(f.Ctx()))
	require.Eventually(t, func() bool { return a.Key() == "" }, 5*time.Second, 10*time.Millisecond)
	require.ErrorIs(t, a.Resign(f.Ctx()), etcdlock.ErrEvicted)
}

// A session reports the loss before another one holds, when its connection falls silent (trap C4).
func TestCompatIsDoneBeforeTheNextOneHolds(t *testing.T) {
	f := newFixture(t)
	const ttl = 6                                      // to be lost by the silence alone
	f.Patience = ttl*time.Second + cluster.ExpirySlack // a lease asked for on the silent connection has no owner
	client, proxy := f.Proxied()
	s := f.compatSession(client, concurrency.WithTTL(ttl))
	m := concurrency.NewMutex(s, "lock")
	require.NoError(t, m.Lock(f.Ctx()))
	hold := m.Hold()
	next := concurrency.NewMutex(f.compatSession(f.Client(), concurrency.WithTTL(60)), "lock")
	locked := cluster.InBackground(func() (before error, err error) {
		err = next.Lock(f.Ctx())
		return hold.Err(), err // by the clock, whatever goroutine runs first
	})
	f.WaitForKeys("lock", 2)
	proxy.Hold()
	require.ErrorIs(t, cluster.Granted(t, locked).Handle, etcdlock.ErrExpired, "both hold")
	cluster.Receive(t, s.Done(), "the end of the session")
	proxy.Resume()
	require.ErrorIs(t, m.Unlock(f.Ctx()), etcdlock.ErrExpired)
	require.NoError(t, next.Unlock(f.Ctx()))
}

func TestCompatTTLsAndOrphans(t *testing.T) {
	f := newFixture(t)
	s := f.compatSession(f.Client(), concurrency.WithTTL(90))
	resp, err := f.Admin.TimeToLive(f.Ctx(), s.Lease())
	require.NoError(t, err)
	require.EqualValues(t, 90, resp.GrantedTTL)
	m := concurrency.NewMutex(s, "lock")
	require.NoError(t, m.Lock(f.Ctx()))
	s.Orphan()
	require.Len(t, f.Keys("lock"), 1)
	require.NoError(t, s.Close())
	require.Empty(t, f.Keys("lock"))
}
