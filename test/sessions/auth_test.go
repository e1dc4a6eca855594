package sessions

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/test/internal/cluster"
)

// tokenTTL is how long an unused token lives: less than the time between two
// renewals of the sessions below, so that each of those finds an expired one.
const tokenTTL = time.Second

// tokenExpired is when it has: the server looks once a second.
const tokenExpired = tokenTTL + 1100*time.Millisecond

// newAuthFixture has auth switched on, with the users root, app (may read and
// write all under "app/") and guest (may do nothing). Tokens are simple ones.
func newAuthFixture(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t)
	f.StopAll()
	for _, m := range f.Cluster.Members {
		m.TokenTTL = uint(tokenTTL / time.Second)
	}
	f.RestartAll()

	ctx := f.Ctx()
	for _, user := range []string{"root", "app", "guest"} {
		_, err := f.Admin.UserAdd(ctx, user, "secret")
		require.NoError(t, err)
		_, err = f.Admin.RoleAdd(ctx, user)
		require.NoError(t, err)
		_, err = f.Admin.UserGrantRole(ctx, user, user)
		require.NoError(t, err)
	}
	_, err := f.Admin.RoleGrantPermission(ctx, "app", "app/", clientv3.GetPrefixRangeEnd("app/"),
		clientv3.PermissionType(clientv3.PermReadWrite))
	require.NoError(t, err)
	_, err = f.Admin.AuthEnable(ctx)
	require.NoError(t, err)
	f.Admin = f.clientAs("root")
	return f
}

func (f *fixture) clientAs(user string, options ...grpc.DialOption) *clientv3.Client {
	f.t.Helper()
	c := f.ClientOf(clientv3.Config{
		Endpoints: f.Cluster.Endpoints(), Username: user, Password: "secret", DialOptions: options,
	})
	// Not closed before assertClean, which was registered earlier: the admin's
	// new client has to outlive it.
	if user == "root" {
		f.AtEnd = append(f.AtEnd, func() { c.Close() })
	} else {
		f.t.Cleanup(func() { c.Close() })
	}
	return c
}

// trap E1
func TestWaitsHoldsAndSessionsOutliveTheAuthToken(t *testing.T) {
	f := newAuthFixture(t)
	const ttl = 6 * time.Second // renewed every 2 s, by when the token is gone
	var ofHolder, ofWaiter cluster.Counter
	holding := f.Session(f.clientAs("app", ofHolder.Options()...), ttl)
	waiting := f.Session(f.clientAs("app", ofWaiter.Options()...), ttl)
	lease := waiting.Lease()
	l, err := etcdlock.NewMutex(holding, "app/lock").Lock(f.Ctx())
	require.NoError(t, err)
	next := cluster.LockInBackground(f.Ctx(), etcdlock.NewMutex(waiting, "app/lock"))
	f.WaitForKeys("app/lock", 2)
	e := etcdlock.NewElection(waiting, "app/election")
	leaders, _ := f.Observe(f.Ctx(), e)
	require.Equal(t, cluster.Vacancy, cluster.NextValue(t, leaders))

	f.Renewed(l.Deadline)
	cluster.StillWaiting(t, next, tokenExpired)
	require.NoError(t, l.Err())
	cluster.Release(t, l)
	second := cluster.Granted(t, next).Handle
	require.Equal(t, lease, waiting.Lease())
	term, err := e.Campaign(f.Ctx(), "a")
	require.NoError(t, err)
	require.Equal(t, "a", cluster.NextValue(t, leaders))
	time.Sleep(tokenExpired)
	require.NoError(t, term.Proclaim(f.Ctx(), "b"))
	require.Equal(t, "b", cluster.NextValue(t, leaders))
	require.NoError(t, term.Resign(f.Ctx()))
	cluster.Release(t, second)
	require.NoError(t, waiting.Close(f.Ctx()))
	require.NoError(t, holding.Close(f.Ctx()))
	// Else no token expired, and this has shown nothing.
	require.Greater(t, ofHolder.Count("/etcdserverpb.Auth/Authenticate"), 1)
	require.Greater(t, ofWaiter.Count("/etcdserverpb.Auth/Authenticate"), 1)
}

func TestWhoHasNoPermissionIsToldSoAtOnce(t *testing.T) {
	f := newAuthFixture(t)
	app := f.Session(f.clientAs("app"), cluster.LongTTL)
	guest := f.Session(f.clientAs("guest"), cluster.LongTTL)
	held, err := etcdlock.NewMutex(app, "app/held").Lock(f.Ctx())
	require.NoError(t, err)
	for what, s := range map[string]*etcdlock.Session{"app/free": guest, "app/held": guest, "outside": app} {
		m, e := etcdlock.NewMutex(s, what), etcdlock.NewElection(s, what)
		for _, call := range []func(context.Context) error{
			func(ctx context.Context) error { _, err := m.Lock(ctx); return err },
			func(ctx context.Context) error { _, err := m.TryLock(ctx); return err },
			func(ctx context.Context) error { _, err := m.Queue(ctx); return err },
			func(ctx context.Context) error { _, err := e.Campaign(ctx, "x"); return err },
			func(ctx context.Context) error { _, err := e.Leader(ctx); return err },
			func(ctx context.Context) error {
				for _, err := range e.Observe(ctx) {
					return err
				}
				return nil
			},
		} {
			start := time.Now()
			err := call(f.Within(20 * time.Second))
			require.ErrorIs(t, err, rpctypes.ErrPermissionDenied, what)
			require.ErrorContains(t, err, what, "the error names the lock")
			require.Less(t, time.Since(start), 10*time.Second)
		}
	}
	require.NoError(t, held.Err())
	cluster.Release(t, held)
}

// A role for the queue alone does not permit a semaphore, because its limit is a key beside the queue.
// The error says which range to grant.
func TestASemaphoreNeedsTheRangeFromItsNameOn(t *testing.T) {
	f := newAuthFixture(t)
	grant := func(from, end string) {
		t.Helper()
		_, err := f.Admin.RoleGrantPermission(f.Ctx(), "guest", from, end, clientv3.PermissionType(clientv3.PermReadWrite))
		require.NoError(t, err)
	}
	grant("jobs/", "jobs0")
	s := f.Session(f.clientAs("guest"), cluster.LongTTL)
	l, err := etcdlock.NewRWMutex(s, "jobs").RLock(f.Ctx())
	require.NoError(t, err, "the queue is enough for all others")
	require.NoError(t, l.Unlock(f.Ctx()))
	m := etcdlock.NewSemaphore(s, "jobs", 3)
	_, err = m.Acquire(f.Within(20*time.Second), 1)
	require.ErrorIs(t, err, rpctypes.ErrPermissionDenied)
	require.ErrorContains(t, err, `grant the user readwrite to the range from "jobs" to "jobs0"`)
	grant("jobs", "jobs0")
	p, err := m.Acquire(f.Ctx(), 1)
	require.NoError(t, err)
	require.NoError(t, m.SetLimit(f.Ctx(), 5))
	require.NoError(t, m.SetLimit(f.Ctx(), 0))
	require.NoError(t, p.Release(f.Ctx()))

	// A prefix for a group of names has all that belongs to them.
	app := etcdlock.NewSemaphore(f.Session(f.clientAs("app"), cluster.LongTTL), "app/jobs", 3)
	p, err = app.Acquire(f.Ctx(), 2)
	require.NoError(t, err)
	require.NoError(t, p.Release(f.Ctx()))
}

// A request is withdrawn by a comparison, for which etcd demands read permission. The range of a role that
// may only write it is beside the queue of the name.
func TestARequestIsWithdrawnByAUserThatMayReadIt(t *testing.T) {
	f := newAuthFixture(t)
	grant := func(from, end string, perm authpb.Permission_Type) {
		t.Helper()
		_, err := f.Admin.RoleGrantPermission(f.Ctx(), "guest", from, end, clientv3.PermissionType(perm))
		require.NoError(t, err)
	}
	requests := func() int {
		t.Helper()
		resp, err := f.Admin.Get(f.Ctx(), "app/held\x00ask/", clientv3.WithPrefix())
		require.NoError(t, err)
		return len(resp.Kvs)
	}
	held, err := etcdlock.NewMutex(f.Session(f.clientAs("app"), cluster.LongTTL), "app/held").Lock(f.Ctx())
	require.NoError(t, err)
	grant("app/held/", "app/held0", clientv3.PermRead)
	grant("app/held\x00", "app/held\x01", clientv3.PermWrite)
	s := f.Session(f.clientAs("guest"), cluster.LongTTL)
	require.ErrorIs(t, s.Ask(f.Within(time.Second), "app/held", ""), context.DeadlineExceeded)
	time.Sleep(time.Second)
	require.Equal(t, 1, requests(), "it stands until the lease ends")
	require.NoError(t, s.Close(f.Ctx()))
	require.Zero(t, requests())

	grant("app/held\x00", "app/held\x01", clientv3.PermReadWrite)
	s = f.Session(f.clientAs("guest"), cluster.LongTTL)
	require.ErrorIs(t, s.Ask(f.Within(time.Second), "app/held", ""), context.DeadlineExceeded)
	require.Eventually(t, func() bool { return requests() == 0 }, 20*time.Second, 10*time.Millisecond)
	cluster.Release(t, held)
}
