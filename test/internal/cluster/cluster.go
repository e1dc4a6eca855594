// Package cluster is what the tests on real etcd share: a cluster of members in the test
// process, clients and sessions that end with the test, and holders that are processes of
// their own.
package cluster

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

	"go.etcd.io/etcd/client/v3/concurrency"
)

// Long is far more than anything in a test should take: it turns a hang into a
// failure.
const Long = 2 * time.Minute

// LongTTL is that of sessions which are not to lose their lease, however slow the machine is. It is
// renewed after a third of it, which no such test takes.
const LongTTL = 10 * time.Minute

// ExpirySlack bounds how long after its TTL a lease may live on in etcd. The lessor looks for
// expired leases every 500 ms, and revoking one takes a raft round. The rest is for a machine under
// load, and for a new raft leader, which gives each lease its full TTL again.
const ExpirySlack = 10 * time.Second

// ExpiryTime is how long after its TTL a lease is gone on a quiet machine: for as long a test waits
// that shows that a lease lives on.
const ExpiryTime = 1500 * time.Millisecond

// Main runs the tests of a package, or is the program of a holder process: it lets the test
// binary be both.
func Main(m *testing.M) int {
	if os.Getenv(holderEnv) != "" {
		return holderMain()
	}
	// A raft leader that is not heard for 100 ms is replaced, which a machine under
	// load brings about by itself. The new one gives every lease its full TTL
	// again. With 300 ms that is for the tests to cause.
	integration.ElectionTicks = 30
	// The members sync every write to disk, which is not what is tested here.
	if dir, err := os.MkdirTemp("/dev/shm", "etcdlock-test-"); err == nil {
		os.Setenv("TMPDIR", dir)
		defer os.RemoveAll(dir)
	}
	return m.Run()
}

// Fixture is a cluster, and the promise that a test leaves nothing behind in it:
// no key, no lease, no goroutine.
type Fixture struct {
	t       *testing.T
	Cluster *integration.Cluster
	Admin   *clientv3.Client // for looking and for mischief; not proxied
	Size    int

	mu       sync.Mutex
	own      map[string]bool // keys of the test itself, which may stay
	Patience time.Duration   // until what sessions could not clean up has expired, and the members agree
	AtEnd    []func()        // run after the last look at etcd

	unanswered atomic.Int32 // requests for a lease by clients of the fixture; each may have left one
}

// New starts three members, which listen behind bridges.
func New(t *testing.T) *Fixture {
	t.Helper()
	return NewOf(t, &integration.ClusterConfig{Size: 3, UseBridge: true})
}

// NewOf starts the members of a configuration.
func NewOf(t *testing.T, cfg *integration.ClusterConfig) *Fixture {
	t.Helper()
	// Runs last of all. The framework's own check would skip the test when the
	// one before it leaked.
	t.Cleanup(func() { goleak.VerifyNone(t) })
	integration.BeforeTestExternal(t)

	f := &Fixture{t: t, Size: cfg.Size, own: make(map[string]bool), Patience: 10 * time.Second}
	f.Cluster = integration.NewCluster(t, cfg)
	t.Cleanup(func() { f.Cluster.Terminate(t) })
	f.Cluster.WaitLeader(t)
	f.Admin = f.Client()
	t.Cleanup(f.AssertClean)
	return f
}

// Client connects to all members.
func (f *Fixture) Client(options ...grpc.DialOption) *clientv3.Client {
	f.t.Helper()
	return f.ClientTo(f.Cluster.Endpoints(), options...)
}

func (f *Fixture) ClientTo(endpoints []string, options ...grpc.DialOption) *clientv3.Client {
	f.t.Helper()
	c := f.ClientOf(clientv3.Config{Endpoints: endpoints, DialOptions: options})
	f.t.Cleanup(func() { c.Close() })
	return c
}

func (f *Fixture) ClientOf(cfg clientv3.Config) *clientv3.Client {
	f.t.Helper()
	cfg.DialTimeout = 5 * time.Second
	cfg.DialOptions = append(slices.Clone(cfg.DialOptions), grpc.WithChainUnaryInterceptor(f.noteGrant))
	// Fatal: what the client and the sessions tell of the weather is expected.
	cfg.Logger = zaptest.NewLogger(f.t, zaptest.Level(logLevel())).Named("client")
	c, err := clientv3.New(cfg)
	require.NoError(f.t, err)
	return c
}

// noteGrant counts the requests for a lease that were not answered. On a machine under load a request
// for a lease is sent again after a second, and no session knows the lease of the first one.
func (f *Fixture) noteGrant(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	if err != nil && method == "/etcdserverpb.Lease/LeaseGrant" {
		f.unanswered.Add(1)
	}
	return err
}

// logLevel: ETCDLOCK_TEST_LOG=debug shows what clients and sessions say.
func logLevel() zapcore.Level {
	if level, err := zapcore.ParseLevel(os.Getenv("ETCDLOCK_TEST_LOG")); err == nil && os.Getenv("ETCDLOCK_TEST_LOG") != "" {
		return level
	}
	return zapcore.FatalLevel
}

// Proxied connects to all members through one proxy.
func (f *Fixture) Proxied(options ...grpc.DialOption) (*clientv3.Client, *faultproxy.Proxy) {
	f.t.Helper()
	p := f.Proxy()
	return f.ClientTo(p.Endpoints(), options...), p
}

func (f *Fixture) Proxy() *faultproxy.Proxy {
	f.t.Helper()
	p, err := faultproxy.New(f.Cluster.Endpoints()...)
	require.NoError(f.t, err)
	f.t.Cleanup(p.Close)
	return p
}

// Session is closed at the end of the test, within a time even when etcd is
// away. A test that ends the session otherwise has closed it before.
func (f *Fixture) Session(c *clientv3.Client, ttl time.Duration, options ...etcdlock.SessionOption) *etcdlock.Session {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Long)
	defer cancel()
	s, err := etcdlock.NewSession(ctx, c, append(options, etcdlock.WithTTL(ttl))...)
	require.NoError(f.t, err)
	f.CloseAtEnd(s)
	return s
}

func (f *Fixture) CloseAtEnd(s *etcdlock.Session) {
	f.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		start := time.Now()
		_ = s.Close(ctx) // its result is looked at by the tests of Close
		assert.Less(f.t, time.Since(start), Long, "Close did not keep to its context")
		select {
		case <-s.Done():
		default:
			assert.Fail(f.t, "the session is not done after Close")
		}
	})
}

// ForeignSession is a session of etcd's own library.
func (f *Fixture) ForeignSession() *concurrency.Session {
	f.t.Helper()
	s, err := concurrency.NewSession(f.Client(), concurrency.WithTTL(3))
	require.NoError(f.t, err)
	f.t.Cleanup(func() { s.Close() })
	return s
}

// Keep says that a key is one of the test itself, which may stay.
func (f *Fixture) Keep(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.own[key] = true
}

// Put writes a key of the test itself.
func (f *Fixture) Put(key, value string) (revision int64) {
	f.t.Helper()
	f.Keep(key)
	resp, err := f.Admin.Put(f.Ctx(), key, value)
	require.NoError(f.t, err)
	return resp.Header.Revision
}

func (f *Fixture) Get(key string) string {
	f.t.Helper()
	resp, err := f.Admin.Get(f.Ctx(), key)
	require.NoError(f.t, err)
	if len(resp.Kvs) == 0 {
		return ""
	}
	return string(resp.Kvs[0].Value)
}

func (f *Fixture) Delete(key string) {
	f.t.Helper()
	_, err := f.Admin.Delete(f.Ctx(), key)
	require.NoError(f.t, err)
}

func (f *Fixture) Revoke(id clientv3.LeaseID) {
	f.t.Helper()
	_, err := f.Admin.Revoke(f.Ctx(), id)
	require.NoError(f.t, err)
}

// Keys are all keys under a name.
func (f *Fixture) Keys(name string) []string {
	f.t.Helper()
	resp, err := f.Admin.Get(f.Ctx(), name+"/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	require.NoError(f.t, err)
	var keys []string
	for _, kv := range resp.Kvs {
		keys = append(keys, string(kv.Key))
	}
	return keys
}

// WaitForKeys waits until so many keys are under a name: until so many stand in
// line.
func (f *Fixture) WaitForKeys(name string, n int) {
	f.t.Helper()
	require.Eventually(f.t, func() bool { return len(f.Keys(name)) == n }, Long, 10*time.Millisecond,
		"not %d keys under %q", n, name)
}

func (f *Fixture) Revision() int64 {
	f.t.Helper()
	resp, err := f.Admin.Get(f.Ctx(), "any")
	require.NoError(f.t, err)
	return resp.Header.Revision
}

// Ctx ends with the test, and after a time that is a hang.
func (f *Fixture) Ctx() context.Context { return f.Within(Long) }

func (f *Fixture) Within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	f.t.Cleanup(cancel)
	return ctx
}

// AssertClean fails the test if a key is left, or a lease that was granted to a session.
func (f *Fixture) AssertClean() {
	defer func() {
		for _, end := range f.AtEnd {
			end()
		}
	}()
	var left []string
	for end := time.Now().Add(f.Patience); ; {
		if left = f.Left(); len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			break
		}
		time.Sleep(20 * time.Millisecond) // between two looks
	}
	assert.Fail(f.t, "left behind in etcd", strings.Join(left, "\n"))
}

func (f *Fixture) Left() []string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var left []string
	resp, err := f.Admin.Get(ctx, "", clientv3.WithFromKey(), clientv3.WithKeysOnly())
	if err != nil {
		return []string{"keys: " + err.Error()}
	}
	for _, kv := range resp.Kvs {
		if !f.own[string(kv.Key)] {
			left = append(left, "key "+string(kv.Key))
		}
	}
	leases, err := f.Admin.Leases(ctx)
	if err != nil {
		return []string{"leases: " + err.Error()}
	}
	if len(left) == 0 && len(leases.Leases) <= int(f.unanswered.Load()) {
		return nil
	}
	for _, l := range leases.Leases {
		left = append(left, "lease "+Hex(l.ID))
	}
	return left
}
