package etcdlocktest

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/etcdlock/etcdlock/internal/etcdproc"
	"github.com/etcdlock/etcdlock/internal/faultproxy"
	"github.com/etcdlock/etcdlock/internal/procs"
	"github.com/etcdlock/etcdlock/internal/testhook"
)

// Endpoints is the variable of the environment that names the etcd of [Real]: host:port, or several
// with commas between them, without TLS.
const Endpoints = "ETCDLOCKTEST_ENDPOINTS"

// Real returns a real etcd, for the same tests as [New]. Time is that of the wall clock, and a lease
// takes its TTL to expire. It is one of these, the first that there is:
//
//   - the etcd at [Endpoints]. The keys of the test get a prefix of their own. [Etcd.Stop] and
//     [Etcd.NewLeader] fail the test there.
//   - a process of the etcd in PATH, for this test alone
//   - a process of the etcd that belongs to the client, which is built with the go command the first
//     time, in about 90 s, and kept in etcdlock/ of the user's cache directory
//
// Without any of them the test fails. Real never skips a test.
func Real(t testing.TB, opts ...Option) *Etcd {
	t.Helper()
	e := newEtcd(t, opts)
	if e.cfg.bubble {
		t.Fatal("etcdlocktest: Real needs a network, which a bubble of testing/synctest does not have; use New")
	}
	r, err := newReal(e)
	if err != nil {
		t.Fatalf("etcdlocktest: no etcd: set %s, or put etcd into PATH: %v", Endpoints, err)
	}
	e.server = r
	t.Cleanup(e.end)
	return e
}

// real is a real etcd.
type real struct {
	etcd    *Etcd
	targets []string
	prefix  string            // of all keys; "" on an etcd of the test's own
	admin   *clientv3.Client  // past the networks of processes
	cluster *etcdproc.Cluster // nil if the etcd is not the test's own
	kids    procs.Children

	mu      sync.Mutex
	granted []clientv3.LeaseID // to processes; guarded by mu, as is
	last    []*mvccpb.KeyValue // all keys at the last answer
}

// limit bounds each request of the test itself.
const limit = 5 * time.Second

func newReal(e *Etcd) (*real, error) {
	r := &real{etcd: e}
	if at := os.Getenv(Endpoints); at != "" {
		r.targets, r.prefix = strings.Split(at, ","), "etcdlocktest/"+rand.Text()+"/"
	} else {
		programs, err := findEtcd(e.t)
		if err != nil {
			return nil, err
		}
		if r.cluster, err = programs.Start(context.Background(), &r.kids, etcdproc.Config{Size: 1, Dir: e.t.TempDir()}); err != nil {
			return nil, err
		}
		r.targets = []string{strings.TrimPrefix(r.cluster.Endpoints()[0], "http://")}
	}
	var err error
	r.admin, err = r.dial(r.targets)
	if err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func findEtcd(t testing.TB) (etcdproc.Programs, error) {
	if path, err := exec.LookPath("etcd"); err == nil {
		return etcdproc.Found(context.Background(), path)
	}
	return etcdproc.Build(context.Background(), etcdproc.Version, t.Logf)
}

func (r *real) dial(endpoints []string, opts ...grpc.DialOption) (*clientv3.Client, error) {
	c, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints, Logger: zap.NewNop(),
		DialOptions: append(opts, grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 200 * time.Millisecond},
			MinConnectTimeout: time.Second,
		})),
	})
	if err == nil && r.prefix != "" {
		c.KV = namespace.NewKV(c.KV, r.prefix)
		c.Watcher = namespace.NewWatcher(c.Watcher, r.prefix)
		c.Lease = namespace.NewLease(c.Lease, r.prefix)
	}
	return c, err
}

func (r *real) connect(p *Process) (*clientv3.Client, network, error) {
	proxy, err := faultproxy.New(r.targets...)
	if err != nil {
		return nil, nil, err
	}
	n := &realNetwork{Proxy: proxy, real: r, process: p, healed: make(chan struct{})}
	c, err := r.dial(proxy.Endpoints(), grpc.WithChainUnaryInterceptor(n.unary), grpc.WithChainStreamInterceptor(n.stream))
	if err != nil {
		proxy.Close()
		return nil, nil, err
	}
	testhook.For(c, p.hooks())
	return c, n, nil
}

// own is the process of an etcd that belongs to the test.
func (r *real) own(what string) *etcdproc.Member {
	r.etcd.t.Helper()
	if r.cluster == nil {
		r.etcd.t.Fatalf("etcdlocktest: %s needs an etcd of the test's own: unset %s", what, Endpoints)
	}
	return r.cluster.Members[0]
}

func (r *real) stop() { r.own("Stop").Kill() }

func (r *real) start() {
	if r.cluster == nil || r.cluster.Members[0].Running() {
		return
	}
	m := r.own("Start")
	ctx, cancel := context.WithTimeout(context.Background(), wallPatience)
	defer cancel()
	err := m.Start()
	if err == nil {
		err = m.Ready(ctx)
	}
	if err != nil {
		r.etcd.t.Errorf("etcdlocktest: start etcd: %v", err)
	}
}

func (r *real) newLeader() {
	r.own("NewLeader").Kill()
	r.start()
}

// ask makes a request of the test itself.
func (r *real) ask(what string, request func(ctx context.Context) error) bool {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := request(ctx); err != nil {
		r.etcd.t.Logf("etcdlocktest: %s: %v", what, err)
		return false
	}
	return true
}

func (r *real) compact() {
	r.ask("compact", func(ctx context.Context) error {
		resp, err := r.admin.Get(ctx, "compact")
		if err == nil {
			_, err = r.admin.Compact(ctx, resp.Header.Revision)
		}
		return err
	})
}

// keys are those of the last answer if etcd is stopped, because its data stay.
func (r *real) keys(prefix string) (found []*mvccpb.KeyValue) {
	if r.cluster == nil || r.cluster.Members[0].Running() {
		r.ask("read all keys", func(ctx context.Context) error {
			resp, err := r.admin.Get(ctx, "", clientv3.WithPrefix())
			if err == nil {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.last = resp.Kvs
			}
			return err
		})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, kv := range r.last {
		if strings.HasPrefix(string(kv.Key), prefix) {
			found = append(found, kv)
		}
	}
	return found
}

func (r *real) leases() (alive []clientv3.LeaseID) {
	r.mu.Lock()
	all := r.granted
	r.mu.Unlock()
	for _, id := range all {
		if r.left(id) > 0 {
			alive = append(alive, id)
		}
	}
	return alive
}

// left is what is left of a lease.
func (r *real) left(id clientv3.LeaseID) (left time.Duration) {
	r.ask("look at a lease", func(ctx context.Context) error {
		resp, err := r.admin.TimeToLive(ctx, id)
		if err == nil {
			left = time.Duration(resp.TTL) * time.Second
		}
		return err
	})
	return left
}

func (r *real) revoke(id clientv3.LeaseID) {
	r.ask("revoke a lease", func(ctx context.Context) error {
		_, err := r.admin.Revoke(ctx, id)
		return err
	})
}

func (r *real) remove(key string) {
	r.ask("delete a key", func(ctx context.Context) error {
		_, err := r.admin.Delete(ctx, key)
		return err
	})
}

// age can only end a lease.
func (r *real) age(id clientv3.LeaseID, by time.Duration) {
	if left := r.left(id); left > 0 && left <= by {
		r.revoke(id)
	}
}

func (r *real) close() {
	if r.admin != nil {
		_ = r.admin.Close()
	}
	if r.cluster != nil {
		r.cluster.Stop()
	}
}

func (r *real) String() string { return fmt.Sprint(r.targets) }
