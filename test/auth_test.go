package test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
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
	f.stopAll()
	for _, m := range f.cluster.Members {
		m.TokenTTL = uint(tokenTTL / time.Second)
	}
	f.restartAll()

	ctx := f.ctx()
	for _, user := range []string{"root", "app", "guest"} {
		_, err := f.admin.UserAdd(ctx, user, "secret")
		require.NoError(t, err)
		_, err = f.admin.RoleAdd(ctx, user)
		require.NoError(t, err)
		_, err = f.admin.UserGrantRole(ctx, user, user)
		require.NoError(t, err)
	}
	_, err := f.admin.RoleGrantPermission(ctx, "app", "app/", clientv3.GetPrefixRangeEnd("app/"),
		clientv3.PermissionType(clientv3.PermReadWrite))
	require.NoError(t, err)
	_, err = f.admin.AuthEnable(ctx)
	require.NoError(t, err)
	f.admin = f.clientAs("root")
	return f
}

func (f *fixture) clientAs(user string, options ...grpc.DialOption) *clientv3.Client {
	f.t.Helper()
	c := f.clientOf(clientv3.Config{
		Endpoints: f.cluster.Endpoints(), Username: user, Password: "secret", DialOptions: options,
	})
	// Not closed before assertClean, which was registered earlier: the admin's
	// new client has to outlive it.
	if user == "root" {
		f.atEnd = append(f.atEnd, func() { c.Close() })
	} else {
		f.t.Cleanup(func() { c.Close() })
	}
	return c
}

// trap E1
func TestWaitsHoldsAndSessionsOutliveTheAuthToken(t *testing.T) {
	f := newAuthFixture(t)
	const ttl = 6 * time.Second // renewed every 2 s, by when the token is gone
	var ofHolder, ofWaiter counter
	holding := f.session(f.clientAs("app", ofHolder.options()...), ttl)
	waiting := f.session(f.clientAs("app", ofWaiter.options()...), ttl)
	lease := waiting.Lease()
	l, err := etcdlock.NewMutex(holding, "app/lock").Lock(f.ctx())
	require.NoError(t, err)
	next := lockInBackground(f.ctx(), etcdlock.NewMutex(waiting, "app/lock"))
	f.waitForKeys("app/lock", 2)
	e := etcdlock.NewElection(waiting, "app/election")
	leaders, _ := f.observe(f.ctx(), e)
	require.Equal(t, vacancy, nextValue(t, leaders))

	f.renewed(l.Deadline)
	stillWaiting(t, next, tokenExpired)
	require.NoError(t, l.Err())
	release(t, l)
	second := granted(t, next).handle
	require.Equal(t, lease, waiting.Lease())
	term, err := e.Campaign(f.ctx(), "a")
	require.NoError(t, err)
	require.Equal(t, "a", nextValue(t, leaders))
	time.Sleep(tokenExpired)
	require.NoError(t, term.Proclaim(f.ctx(), "b"))
	require.Equal(t, "b", nextValue(t, leaders))
	require.NoError(t, term.Resign(f.ctx()))
	release(t, second)
	require.NoError(t, waiting.Close(f.ctx()))
	require.NoError(t, holding.Close(f.ctx()))
	// Else no token expired, and this has shown nothing.
	require.Greater(t, ofHolder.count("/etcdserverpb.Auth/Authenticate"), 1)
	require.Greater(t, ofWaiter.count("/etcdserverpb.Auth/Authenticate"), 1)
}

func TestWhoHasNoPermissionIsToldSoAtOnce(t *testing.T) {
	f := newAuthFixture(t)
	app := f.session(f.clientAs("app"), 3*time.Second)
	guest := f.session(f.clientAs("guest"), 3*time.Second)
	held, err := etcdlock.NewMutex(app, "app/held").Lock(f.ctx())
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
			err := call(f.within(5 * time.Second))
			require.ErrorIs(t, err, rpctypes.ErrPermissionDenied, what)
			require.ErrorContains(t, err, what, "the error names the lock")
			require.Less(t, time.Since(start), 2*time.Second)
		}
	}
	require.NoError(t, held.Err())
	release(t, held)
}
