package mixed

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/etcdproc"
	"github.com/etcdlock/etcdlock/internal/faultproxy"
	"github.com/etcdlock/etcdlock/internal/procs"
	"github.com/etcdlock/etcdlock/internal/testhook"
)

// long is far more than anything here should take: it turns a hang into a failure.
const long = 30 * time.Second

// ttl is the TTL of all sessions. It is short, because a killed process blocks all others for as long,
// but not so short that a machine under load ends them.
const ttl = 3 * time.Second

// waitABit is long enough for a grant that should not be.
const waitABit = 50 * time.Millisecond

func TestMain(m *testing.M) {
	if os.Getenv(processEnv) != "" {
		os.Exit(processMain())
	}
	os.Exit(func() int {
		// The members sync every write to disk, which is not what is tested here.
		dir, err := os.MkdirTemp("/dev/shm", "etcdlock-mixed-")
		if err != nil {
			dir, err = os.MkdirTemp("", "etcdlock-mixed-")
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		os.Setenv("TMPDIR", dir)
		code := m.Run()
		defer func() { _ = os.RemoveAll(mateDir) }() // nothing for ""
		defer kids.EndAll()
		if shared != nil {
			shared.Stop()
		}
		if err := goleak.Find(); err != nil && code == 0 {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	}())
}

// programs are the etcd and etcdctl that all tests run on.
var programs = sync.OnceValues(func() (etcdproc.Programs, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	if dir := os.Getenv("ETCDLOCK_ETCD_DIR"); dir != "" {
		return etcdproc.Found(ctx, filepath.Join(dir, "etcd"))
	}
	return etcdproc.Own(ctx, log.Printf)
})

// kids are the processes of all tests.
var kids procs.Children

// shared is the cluster of the tests that do it no harm, guarded by sharing.
var (
	sharing sync.Mutex
	shared  *etcdproc.Cluster
)

// world is a test's part of a cluster: what begins with its name.
type world struct {
	t       *testing.T
	cluster *etcdproc.Cluster
	admin   *clientv3.Client // for looking and for mischief
	base    string           // of all names of the test
	looked  sync.Once        // for what is left

	endpoints []string // where clients go that are told nothing else
	sessions  atomic.Int64
	crowd     bool // true: every other session behaves as in a long queue
}

// newWorld is on the cluster that the tests share.
func newWorld(t *testing.T) *world {
	t.Helper()
	// The cluster's processes are waited for.
	t.Cleanup(func() {
		goleak.VerifyNone(t, goleak.IgnoreAnyFunction("github.com/etcdlock/etcdlock/internal/procs.(*Children).Start.func1"))
	})
	return newWorldOn(t, sharedCluster(t))
}

// newWaitingWorld is that of a test which waits for most of its time, beside others. Leaks
// of those are looked for at the very end.
func newWaitingWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	return newWorldOn(t, sharedCluster(t))
}

func sharedCluster(t *testing.T) *etcdproc.Cluster {
	t.Helper()
	sharing.Lock()
	defer sharing.Unlock()
	if shared == nil {
		shared = startCluster(t, etcdproc.Config{Size: 3})
	}
	return shared
}

// newOwnWorld has a cluster of its own, which ends with the test. It is a waiting world.
func newOwnWorld(t *testing.T, cfg etcdproc.Config) *world {
	t.Helper()
	t.Parallel()
	c := startCluster(t, cfg)
	t.Cleanup(c.Stop)
	return newWorldOn(t, c)
}

func startCluster(t *testing.T, cfg etcdproc.Config) *etcdproc.Cluster {
	t.Helper()
	p, err := programs()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	c, err := p.Start(ctx, &kids, cfg)
	require.NoError(t, err)
	return c
}

func newWorldOn(t *testing.T, c *etcdproc.Cluster) *world {
	t.Helper()
	w := &world{t: t, cluster: c, endpoints: c.Endpoints(), base: regexp.MustCompile(`\W+`).ReplaceAllString(t.Name(), "-")}
	admin, err := c.Client()
	require.NoError(t, err)
	t.Cleanup(func() { admin.Close() })
	w.admin = admin
	w.cleanAtEnd()
	return w
}

// atLeast tells whether the etcd that is tested is at least of a version.
func (w *world) atLeast(major, minor int) bool {
	var a, b int
	_, err := fmt.Sscanf(w.cluster.Version, "v%d.%d.", &a, &b)
	require.NoError(w.t, err)
	return a > major || a == major && b >= minor
}

func (w *world) name(of string) string { return w.base + "/" + of }

// ctx ends with the test, and after a time that is a hang.
func (w *world) ctx() context.Context { return w.within(long) }

func (w *world) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	w.t.Cleanup(cancel)
	return ctx
}

// client connects to all members.
func (w *world) client() *clientv3.Client { return w.clientOf(clientv3.Config{}) }

func (w *world) clientOf(cfg clientv3.Config) *clientv3.Client {
	w.t.Helper()
	if cfg.Endpoints == nil {
		cfg.Endpoints = w.endpoints
	}
	cfg.DialTimeout = long
	cfg.Logger = zap.NewNop() // what clients tell of the weather is expected
	c, err := clientv3.New(cfg)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { c.Close() })
	return c
}

// proxied connects to all members through one proxy.
func (w *world) proxied() (*clientv3.Client, *faultproxy.Proxy) {
	w.t.Helper()
	p := w.faults()
	return w.clientOf(clientv3.Config{Endpoints: p.Endpoints()}), p
}

// faults is a network that behaves badly, between the clients and where they go.
func (w *world) faults() *faultproxy.Proxy {
	w.t.Helper()
	var targets []string
	for _, e := range w.endpoints {
		targets = append(targets, strings.TrimPrefix(e, "http://"))
	}
	p, err := faultproxy.New(targets...)
	require.NoError(w.t, err)
	w.t.Cleanup(p.Close)
	return p
}

// session is one of ours, which ends with the test.
func (w *world) session(c *clientv3.Client, options ...etcdlock.SessionOption) *etcdlock.Session {
	w.t.Helper()
	options = append([]etcdlock.SessionOption{etcdlock.WithTTL(ttl), etcdlock.WithLogger(zap.NewNop())}, options...)
	if w.crowd && w.sessions.Add(1)%2 == 0 { // it marks its entries, as in a long queue
		testhook.For(c, testhook.Hooks{Crowd: -1})
	}
	s, err := etcdlock.NewSession(w.ctx(), c, options...)
	require.NoError(w.t, err)
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.Close(ctx) // what it has left is looked for
	})
	return s
}

// keys are all keys under a name.
func (w *world) keys(name string) []string {
	w.t.Helper()
	resp, err := w.admin.Get(w.ctx(), name+"/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	require.NoError(w.t, err)
	var keys []string
	for _, kv := range resp.Kvs {
		keys = append(keys, string(kv.Key))
	}
	return keys
}

// waitForKeys waits until so many stand in line under a name.
func (w *world) waitForKeys(name string, n int) {
	w.t.Helper()
	require.Eventually(w.t, func() bool { return len(w.keys(name)) == n }, 10*time.Second, 5*time.Millisecond,
		"not %d keys under %q", n, name)
}

func (w *world) revoke(id clientv3.LeaseID) {
	w.t.Helper()
	_, err := w.admin.Revoke(w.ctx(), id)
	require.NoError(w.t, err)
}

// tempDir is removed with all of the tests' files.
func (w *world) tempDir() string {
	w.t.Helper()
	dir, err := os.MkdirTemp("", filepath.Base(w.base)+"-")
	require.NoError(w.t, err)
	return dir
}

// cleanAtEnd looks for what is left when all that was made after this call has ended; once.
func (w *world) cleanAtEnd() { w.t.Cleanup(func() { w.looked.Do(w.assertClean) }) }

// assertClean fails the test if a key of it is left.
func (w *world) assertClean() {
	var left []string
	for end := time.Now().Add(ttl + 2*time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		resp, err := w.admin.Get(ctx, w.base, clientv3.WithPrefix(), clientv3.WithKeysOnly())
		cancel()
		if !assert.NoError(w.t, err) {
			return
		}
		left = left[:0]
		for _, kv := range resp.Kvs {
			left = append(left, string(kv.Key))
		}
		if len(left) == 0 {
			return
		}
	}
	assert.Fail(w.t, "left behind in etcd", strings.Join(left, "\n"))
}

// receive waits for a value, for a limited time.
func receive[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case v, ok := <-from:
		require.True(t, ok, "%s: the channel is closed", what)
		return v
	case <-time.After(long):
		require.FailNow(t, "nothing came", what)
		panic("unreachable")
	}
}

func etcdHex(id clientv3.LeaseID) string { return fmt.Sprintf("%x", int64(id)) }

func receiveClosed(t *testing.T, ch <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(long):
		require.FailNow(t, "did not come", what)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	ports, err := etcdproc.FreePorts(1)
	require.NoError(t, err)
	return ports[0]
}
