package mixed

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/etcdproc"
)

// newAuthWorld has authentication on, and the users of docs/security.md made by the very
// commands that stand there.
func newAuthWorld(t *testing.T, args ...string) *world {
	t.Helper()
	// The least cost: etcd spends the other three quarters of these tests on passwords.
	args = append(args, "--bcrypt-cost", "4")
	w := newOwnWorld(t, etcdproc.Config{Size: 1, Args: args})
	w.shell("etcdctl user add root:secret && etcdctl user grant-role root root")
	text, err := os.ReadFile("../../docs/security.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)<!-- run by TestTheDocumentedRoleSuffices, as root -->\n```sh\n(.*?)```").FindAllSubmatch(text, -1)
	require.Len(t, blocks, 2)
	for _, b := range blocks {
		w.shell(string(b[1]))
	}
	w.shell("etcdctl auth enable")
	w.admin = w.as("root")
	w.base = "orders"
	w.cleanAtEnd() // before its client is closed
	return w
}

// shell runs commands as they are documented.
func (w *world) shell(script string) {
	w.t.Helper()
	cmd := exec.CommandContext(w.ctx(), "sh", "-ec", script)
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3", "ETCDCTL_ENDPOINTS="+w.cluster.Endpoints()[0],
		"PATH="+filepath.Dir(w.cluster.Etcdctl)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	require.NoError(w.t, err, "%s\n%s", script, out)
}

func (w *world) as(user string) *clientv3.Client {
	w.t.Helper()
	return w.clientOf(clientv3.Config{Username: user, Password: "secret"})
}

// calls are all that need permission.
func calls(s *etcdlock.Session, name string) (taking, looking map[string]func(ctx context.Context) error) {
	m, e := etcdlock.NewMutex(s, name), etcdlock.NewElection(s, name)
	taking = map[string]func(ctx context.Context) error{
		"Lock": func(ctx context.Context) error {
			l, err := m.Lock(ctx)
			if err == nil {
				err = l.Unlock(ctx)
			}
			return err
		},
		"TryLock": func(ctx context.Context) error {
			l, err := m.TryLock(ctx)
			if err == nil {
				err = l.Unlock(ctx)
			}
			return err
		},
		"Campaign": func(ctx context.Context) error {
			term, err := e.Campaign(ctx, "a")
			if err != nil {
				return err
			}
			if err := term.Proclaim(ctx, "b"); err != nil {
				return err
			}
			return term.Resign(ctx)
		},
	}
	looking = map[string]func(ctx context.Context) error{
		"Queue": func(ctx context.Context) error { _, err := m.Queue(ctx); return err },
		"Leader": func(ctx context.Context) error {
			_, err := e.Leader(ctx)
			if err != nil && strings.Contains(err.Error(), etcdlock.ErrNoLeader.Error()) {
				return nil
			}
			return err
		},
		"Observe": func(ctx context.Context) error {
			for _, err := range e.Observe(ctx) {
				return err
			}
			return ctx.Err()
		},
	}
	return taking, looking
}

// denied fails the test if a call is not refused at once, in words that help.
func (w *world) denied(s *etcdlock.Session, name string, calls map[string]func(ctx context.Context) error) {
	w.t.Helper()
	for what, call := range calls {
		start := time.Now()
		err := call(w.within(10 * time.Second))
		require.ErrorIs(w.t, err, rpctypes.ErrPermissionDenied, what)
		require.ErrorContains(w.t, err, `"`+name+`"`, what)
		require.ErrorContains(w.t, err, `"`+name+`/"`, "%s: what to grant", what)
		require.Less(w.t, time.Since(start), 2*time.Second, what)
	}
	require.NoError(w.t, s.Err())
}

func (w *world) allowed(calls map[string]func(ctx context.Context) error) {
	w.t.Helper()
	for what, call := range calls {
		require.NoError(w.t, call(w.ctx()), what)
	}
}

func TestTheDocumentedRoleSuffices(t *testing.T) {
	w := newAuthWorld(t)
	orders, onlooker := w.session(w.as("orders")), w.session(w.as("onlooker"))
	for _, name := range []string{"orders/42", "orders/a/b"} {
		taking, looking := calls(orders, name)
		w.allowed(taking)
		w.allowed(looking)
		_, looking = calls(onlooker, name)
		w.allowed(looking)
	}
	w.shared(w.as("orders"), "orders/x")

	// A whole handover, the watches included.
	a, b := newOurMutex(w, w.as("orders"), "orders/42"), newOurMutex(w, w.as("orders"), "orders/42")
	held := w.must(a)
	next := start(w.ctx(), b)
	w.waitForKeys("orders/42", 2)
	w.waits(next, 1200*time.Millisecond) // a renewal has come by
	w.release(held)
	w.release(w.granted(next))
	require.NoError(t, orders.Close(w.ctx()))
	require.NoError(t, onlooker.Close(w.ctx()))
}

// The grant for one lock alone, which is not enough for what is kept beside the queue.
func TestTheGrantForOneNameAlone(t *testing.T) {
	w := newAuthWorld(t)
	w.shell(`export ETCDCTL_USER=root:secret
etcdctl role add one
etcdctl role grant-permission one readwrite --prefix=true orders/42/
etcdctl user add one:secret
etcdctl user grant-role one one`)
	s := w.session(w.as("one"))
	taking, looking := calls(s, "orders/42")
	w.allowed(taking)
	w.allowed(looking)
	r, err := etcdlock.NewRWMutex(s, "orders/42").RLock(w.ctx())
	require.NoError(t, err)
	require.NoError(t, r.Unlock(w.ctx()))

	held := w.must(newOurMutex(w, w.as("orders"), "orders/42"))
	beside := map[string]func(ctx context.Context) error{
		"Ask": func(ctx context.Context) error { return s.Ask(ctx, "orders/42", "") },
		"Acquire": func(ctx context.Context) error {
			_, err := etcdlock.NewSemaphore(s, "orders/42", 2).Acquire(ctx, 1)
			return err
		},
	}
	for what, call := range beside {
		require.ErrorIs(t, call(w.within(5*time.Second)), rpctypes.ErrPermissionDenied, what)
	}
	w.release(held)
	taking, _ = calls(s, "orders/421")
	w.denied(s, "orders/421", taking)
}

func TestLessThanTheDocumentedRoleIsToldClearly(t *testing.T) {
	w := newAuthWorld(t)
	held := w.must(newOurMutex(w, w.as("orders"), "orders/held"))
	grant := func(user string, key, end string, kind clientv3.PermissionType) *etcdlock.Session {
		ctx := w.ctx()
		_, err := w.admin.UserAdd(ctx, user, "secret")
		require.NoError(t, err)
		_, err = w.admin.RoleAdd(ctx, user)
		require.NoError(t, err)
		_, err = w.admin.UserGrantRole(ctx, user, user)
		require.NoError(t, err)
		if key != "" {
			_, err = w.admin.RoleGrantPermission(ctx, user, key, end, kind)
			require.NoError(t, err)
		}
		return w.session(w.as(user))
	}
	const read, write, both = clientv3.PermissionType(clientv3.PermRead), clientv3.PermissionType(clientv3.PermWrite), clientv3.PermissionType(clientv3.PermReadWrite)
	for what, c := range map[string]struct {
		s       *etcdlock.Session
		looking bool // is allowed
	}{
		"nothing":          {grant("nobody", "", "", both), false},
		"reading":          {grant("reader", "orders/", "orders0", read), true},
		"writing":          {grant("writer", "orders/", "orders0", write), false},
		"another name":     {grant("other", "others/", "others0", both), false},
		"part of the name": {grant("part", "orders/4", "orders/5", both), false},
	} {
		for _, name := range []string{"orders/free", "orders/held"} {
			taking, looking := calls(c.s, name)
			w.denied(c.s, name, taking)
			if c.looking {
				w.allowed(looking)
			} else {
				w.denied(c.s, name, looking)
			}
		}
		require.NoError(t, c.s.Close(w.ctx()), what)
	}
	require.Len(t, w.keys("orders"), 1, "what was refused leaves nothing")
	w.release(held)
}

// What is held when the permission goes: Unlock is refused, and says so at once; the lease
// takes the key with it.
func TestPermissionThatIsTakenAwayIsToldClearly(t *testing.T) {
	w := newAuthWorld(t)
	s := w.session(w.as("orders"))
	l, err := etcdlock.NewMutex(s, "orders/42").Lock(w.ctx())
	require.NoError(t, err)
	next := lockInBackground(w.ctx(), etcdlock.NewMutex(w.session(w.as("root")), "orders/42"))
	w.waitForKeys("orders/42", 2)
	_, err = w.admin.RoleRevokePermission(w.ctx(), "orders", "orders/", "orders0")
	require.NoError(t, err)
	start := time.Now()
	err = l.Unlock(w.within(10 * time.Second))
	require.ErrorIs(t, err, rpctypes.ErrPermissionDenied)
	require.ErrorContains(t, err, `"orders/42"`)
	require.Less(t, time.Since(start), 2*time.Second)
	require.ErrorIs(t, l.Err(), etcdlock.ErrReleased)
	taking, looking := calls(s, "orders/other")
	w.denied(s, "orders/other", taking)
	w.denied(s, "orders/other", looking)
	if !w.atLeast(3, 5) {
		// It still renews the lease, so that the key stays for as long as the session.
		w.waits(next, ttl+time.Second)
		require.ErrorIs(t, s.Close(w.ctx()), rpctypes.ErrPermissionDenied, "the lease is left to expire")
	}
	second := receive(t, next, "a grant")
	require.NoError(t, second.err)
	t.Logf("figure: granted %v after an Unlock that was refused; TTL %v", second.at.Sub(start).Round(time.Millisecond), ttl)
	w.release(second.hold)
}

func TestAUserWhoIsDeletedIsToldSo(t *testing.T) {
	w := newAuthWorld(t)
	s := w.session(w.as("orders"))
	l, err := etcdlock.NewMutex(s, "orders/42").Lock(w.ctx())
	require.NoError(t, err)
	_, err = w.admin.UserDelete(w.ctx(), "orders")
	require.NoError(t, err)
	start := time.Now()
	_, err = etcdlock.NewMutex(s, "orders/43").Lock(w.within(10 * time.Second))
	require.ErrorIs(t, err, rpctypes.ErrAuthFailed)
	require.ErrorContains(t, err, "orders/43")
	require.ErrorIs(t, l.Unlock(w.within(10*time.Second)), rpctypes.ErrAuthFailed)
	require.Less(t, time.Since(start), 2*time.Second)
	require.Eventually(t, func() bool { return s.State() == etcdlock.StateLost }, ttl+5*time.Second, 10*time.Millisecond)
	_, err = etcdlock.NewMutex(s, "orders/43").Lock(w.within(time.Second))
	require.ErrorIs(t, err, context.DeadlineExceeded, "it waits for a lease")
	w.waitForKeys("orders/42", 0)
}

// trap E1: a token that expires is noticed by no caller.
func TestWaitsAndHoldsOutliveTheToken(t *testing.T) {
	if p, err := programs(); err == nil && strings.HasPrefix(p.Version, "v3.4.") {
		t.Skip("etcd 3.4 refuses to authenticate a request that comes with an expired token, as those of today's client do")
	}
	keys := t.TempDir()
	private, public := filepath.Join(keys, "private.pem"), filepath.Join(keys, "public.pem")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	require.NoError(t, err)
	writePEM(t, private, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))
	writePEM(t, public, "PUBLIC KEY", spki)
	for what, args := range map[string][]string{
		"simple": {"--auth-token", "simple", "--auth-token-ttl", "1"},
		"JWT":    {"--auth-token", "jwt,pub-key=" + public + ",priv-key=" + private + ",sign-method=RS256,ttl=1s"},
	} {
		t.Run(what, func(t *testing.T) {
			w := newAuthWorld(t, args...)
			a, b := newOurMutex(w, w.as("orders"), "orders/42"), newOurMutex(w, w.as("orders"), "orders/42")
			e := etcdlock.NewElection(a.session, "orders/scheduler")
			seen := make(chan string, 10)
			go func() {
				for leader, err := range etcdlock.NewElection(b.session, "orders/scheduler").Observe(w.ctx()) {
					if err == nil {
						seen <- leader.Value
					}
				}
			}()
			require.Empty(t, receive(t, seen, "a vacancy"))
			held := w.must(a)
			next := start(w.ctx(), b)
			w.waitForKeys("orders/42", 2)
			w.waits(next, ttl+time.Second) // several tokens and a lease without renewal later
			select {
			case <-held.ended:
				require.FailNow(t, "the hold is lost")
			default:
			}
			term, err := e.Campaign(w.ctx(), "a")
			require.NoError(t, err)
			require.Equal(t, "a", receive(t, seen, "the leader"))
			w.release(held)
			w.release(w.granted(next))
			require.NoError(t, term.Resign(w.ctx()))
			require.Empty(t, receive(t, seen, "a vacancy"))
			require.NoError(t, a.session.Close(w.ctx()))
			require.NoError(t, b.session.Close(w.ctx()))
		})
	}
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}
