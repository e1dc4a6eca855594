package test

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"
	"google.golang.org/grpc"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/tests/v3/framework/integration"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/faultproxy"
)

// long is far more than anything in a test should take: it turns a hang into a
// failure.
const long = 30 * time.Second

// expirySlack is how long after its TTL a lease may live on in etcd: the lessor
// looks for expired leases every 500 ms, and revoking one takes a raft round; the
// rest is slack for a machine under load.
const expirySlack = 1500 * time.Millisecond

// TestMain lets the test binary be the program of a holder process too.
func TestMain(m *testing.M) {
	if os.Getenv(holderEnv) != "" {
		os.Exit(holderMain())
	}
	// A raft leader that is not heard for 100 ms is replaced, which a machine under
	// load brings about by itself; and the new one gives every lease its full TTL
	// again. With 300 ms that is for the tests to cause.
	integration.ElectionTicks = 30
	// The members sync every write to disk, which is not what is tested here.
	if dir, err := os.MkdirTemp("/dev/shm", "etcdlock-test-"); err == nil {
		os.Setenv("TMPDIR", dir)
		code := m.Run()
		os.RemoveAll(dir)
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// fixture is a cluster, and the promise that a test leaves nothing behind in it:
// no key, no lease, no goroutine.
type fixture struct {
	t       *testing.T
	cluster *integration.Cluster
	admin   *clientv3.Client // for looking and for mischief; not proxied
	size    int

	mu       sync.Mutex
	own      map[string]bool // keys of the test itself, which may stay
	patience time.Duration   // until what sessions could not clean up has expired
	atEnd    []func()        // run after the last look at etcd
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	return newFixtureOf(t, &integration.ClusterConfig{Size: 3, UseBridge: true})
}

func newFixtureOf(t *testing.T, cfg *integration.ClusterConfig) *fixture {
	t.Helper()
	// Runs last of all. The framework's own check would skip the test when the
	// one before it leaked.
	t.Cleanup(func() { goleak.VerifyNone(t) })
	integration.BeforeTestExternal(t)

	f := &fixture{t: t, size: cfg.Size, own: make(map[string]bool), patience: 2 * time.Second}
	f.cluster = integration.NewCluster(t, cfg)
	t.Cleanup(func() { f.cluster.Terminate(t) })
	f.cluster.WaitLeader(t)
	f.admin = f.client()
	t.Cleanup(f.assertClean)
	return f
}

// client connects to all members.
func (f *fixture) client(options ...grpc.DialOption) *clientv3.Client {
	f.t.Helper()
	return f.clientTo(f.cluster.Endpoints(), options...)
}

func (f *fixture) clientTo(endpoints []string, options ...grpc.DialOption) *clientv3.Client {
	f.t.Helper()
	c := f.clientOf(clientv3.Config{Endpoints: endpoints, DialOptions: options})
	f.t.Cleanup(func() { c.Close() })
	return c
}

func (f *fixture) clientOf(cfg clientv3.Config) *clientv3.Client {
	f.t.Helper()
	cfg.DialTimeout = 5 * time.Second
	// Fatal: what the client and the sessions tell of the weather is expected.
	cfg.Logger = zaptest.NewLogger(f.t, zaptest.Level(logLevel())).Named("client")
	c, err := clientv3.New(cfg)
	require.NoError(f.t, err)
	return c
}

// logLevel: ETCDLOCK_TEST_LOG=debug shows what clients and sessions say.
func logLevel() zapcore.Level {
	if level, err := zapcore.ParseLevel(os.Getenv("ETCDLOCK_TEST_LOG")); err == nil && os.Getenv("ETCDLOCK_TEST_LOG") != "" {
		return level
	}
	return zapcore.FatalLevel
}

// proxied connects to all members through one proxy.
func (f *fixture) proxied(options ...grpc.DialOption) (*clientv3.Client, *faultproxy.Proxy) {
	f.t.Helper()
	p := f.proxy()
	return f.clientTo(p.Endpoints(), options...), p
}

func (f *fixture) proxy() *faultproxy.Proxy {
	f.t.Helper()
	p, err := faultproxy.New(f.cluster.Endpoints()...)
	require.NoError(f.t, err)
	f.t.Cleanup(p.Close)
	return p
}

// session is closed at the end of the test, within a time even when etcd is
// away. A test that ends the session otherwise has closed it before.
func (f *fixture) session(c *clientv3.Client, ttl time.Duration, options ...etcdlock.SessionOption) *etcdlock.Session {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	s, err := etcdlock.NewSession(ctx, c, append(options, etcdlock.WithTTL(ttl))...)
	require.NoError(f.t, err)
	f.closeAtEnd(s)
	return s
}

func (f *fixture) closeAtEnd(s *etcdlock.Session) {
	f.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		start := time.Now()
		_ = s.Close(ctx) // its result is looked at by the tests of Close
		assert.Less(f.t, time.Since(start), 6*time.Second, "Close did not keep to its context")
		select {
		case <-s.Done():
		default:
			assert.Fail(f.t, "the session is not done after Close")
		}
	})
}

// put writes a key of the test itself.
func (f *fixture) put(key, value string) (revision int64) {
	f.t.Helper()
	f.mu.Lock()
	f.own[key] = true
	f.mu.Unlock()
	resp, err := f.admin.Put(f.ctx(), key, value)
	require.NoError(f.t, err)
	return resp.Header.Revision
}

func (f *fixture) get(key string) string {
	f.t.Helper()
	resp, err := f.admin.Get(f.ctx(), key)
	require.NoError(f.t, err)
	if len(resp.Kvs) == 0 {
		return ""
	}
	return string(resp.Kvs[0].Value)
}

func (f *fixture) delete(key string) {
	f.t.Helper()
	_, err := f.admin.Delete(f.ctx(), key)
	require.NoError(f.t, err)
}

func (f *fixture) revoke(id clientv3.LeaseID) {
	f.t.Helper()
	_, err := f.admin.Revoke(f.ctx(), id)
	require.NoError(f.t, err)
}

// keys are all keys under a name.
func (f *fixture) keys(name string) []string {
	f.t.Helper()
	resp, err := f.admin.Get(f.ctx(), name+"/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	require.NoError(f.t, err)
	var keys []string
	for _, kv := range resp.Kvs {
		keys = append(keys, string(kv.Key))
	}
	return keys
}

// waitForKeys waits until so many keys are under a name: until so many stand in
// line.
func (f *fixture) waitForKeys(name string, n int) {
	f.t.Helper()
	require.Eventually(f.t, func() bool { return len(f.keys(name)) == n }, 10*time.Second, 10*time.Millisecond,
		"not %d keys under %q", n, name)
}

func (f *fixture) revision() int64 {
	f.t.Helper()
	resp, err := f.admin.Get(f.ctx(), "any")
	require.NoError(f.t, err)
	return resp.Header.Revision
}

// ctx ends with the test, and after a time that is a hang.
func (f *fixture) ctx() context.Context { return f.within(long) }

func (f *fixture) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	f.t.Cleanup(cancel)
	return ctx
}

// assertClean fails the test if a key or a lease is left.
func (f *fixture) assertClean() {
	defer func() {
		for _, end := range f.atEnd {
			end()
		}
	}()
	var left []string
	for end := time.Now().Add(f.patience); ; {
		if left = f.left(); len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			break
		}
		time.Sleep(20 * time.Millisecond) // between two looks
	}
	assert.Fail(f.t, "left behind in etcd", strings.Join(left, "\n"))
}

func (f *fixture) left() []string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var left []string
	resp, err := f.admin.Get(ctx, "", clientv3.WithFromKey(), clientv3.WithKeysOnly())
	if err != nil {
		return []string{"keys: " + err.Error()}
	}
	for _, kv := range resp.Kvs {
		if !f.own[string(kv.Key)] {
			left = append(left, "key "+string(kv.Key))
		}
	}
	leases, err := f.admin.Leases(ctx)
	if err != nil {
		return []string{"leases: " + err.Error()}
	}
	for _, l := range leases.Leases {
		left = append(left, "lease "+etcdHex(l.ID))
	}
	return left
}
