package bubble

import (
	"context"
	"net"
	"net/url"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/client/pkg/v3/types"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/config"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"go.etcd.io/etcd/server/v3/features"

	"github.com/etcdlock/etcdlock/internal/faultproxy"
	_ "github.com/etcdlock/etcdlock/internal/simetcd" // makes clientv3's watches wait inside the bubble, see its unblock.go
	"github.com/etcdlock/etcdlock/internal/testhook"
)

// etcd is the real server, of one member, in the bubble of the test: its raft ticks, its
// leases and its batches go by virtual time. It listens nowhere; clients reach it through
// memory.
type etcd struct {
	t      *testing.T
	dir    string
	server *etcdserver.EtcdServer
	rpc    *grpc.Server

	seen func(key string, created, deleted int64) // told of each change, once look was called
	told atomic.Int64                             // the last revision of which it was
	door atomic.Pointer[bufconn.Listener]
}

type conn = net.Conn

// newEtcd starts one. It has to be stopped before the bubble's root returns.
func newEtcd(t *testing.T) *etcd {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "etcdlock-bubble-") //nolint:usetesting // in memory
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	e := &etcd{t: t, dir: dir}
	e.start(true)
	e.told.Store(e.server.KV().Rev())
	return e
}

func (e *etcd) start(first bool) {
	e.t.Helper()
	// No client connects to it. A name would be looked up when it starts again, on channels
	// that belong to no bubble.
	self := url.URL{Scheme: "http", Host: "127.0.0.1:2380"}
	log := zap.NewNop()
	var err error
	e.server, err = etcdserver.NewServer(config.ServerConfig{
		Name: "member", DataDir: e.dir, NewCluster: first,
		PeerURLs: types.URLs{self}, ClientURLs: types.URLs{self},
		InitialPeerURLsMap: types.URLsMap{"member": types.URLs{self}}, InitialClusterToken: "bubble",
		TickMs: 100, ElectionTicks: 10, InitialElectionTickAdvance: true,
		MaxTxnOps: embed.DefaultMaxTxnOps, MaxRequestBytes: embed.DefaultMaxRequestBytes,
		SnapshotCount: etcdserver.DefaultSnapshotCount, SnapshotCatchUpEntries: etcdserver.DefaultSnapshotCatchUpEntries,
		AuthToken: "simple", TokenTTL: 300, BcryptCost: 4,
		WarningApplyDuration:        embed.DefaultWarningApplyDuration,
		WarningUnaryRequestDuration: embed.DefaultWarningUnaryRequestDuration,
		BackendFreelistType:         bolt.FreelistMapType,
		UnsafeNoFsync:               true, // nothing here survives the process
		ServerFeatureGate:           features.NewDefaultServerFeatureGate("member", log),
		Logger:                      log,
	})
	require.NoError(e.t, err)
	e.server.Start()
	if e.seen != nil {
		e.look()
	}
	e.rpc = v3rpc.Server(e.server, nil, nil)
	door, rpc := bufconn.Listen(64<<10), e.rpc
	e.door.Store(door)
	go func() { _ = rpc.Serve(door) }()
	<-e.server.ReadyNotify()
}

// look has the server tell of each change from the next one on, at the instant at which
// it happens: past its API, where the news would come later.
func (e *etcd) look() {
	stream := e.server.Watchable().NewWatchStream()
	_, err := stream.Watch(context.Background(), 0, []byte{0}, []byte{}, e.told.Load()+1)
	require.NoError(e.t, err)
	stopped := e.server.StopNotify()
	go func() {
		defer stream.Close()
		for {
			select {
			case resp := <-stream.Chan():
				for _, ev := range resp.Events {
					e.told.Store(ev.Kv.ModRevision)
					if ev.Type == mvccpb.Event_DELETE {
						e.seen(string(ev.Kv.Key), 0, ev.Kv.ModRevision)
					} else {
						e.seen(string(ev.Kv.Key), ev.Kv.CreateRevision, 0)
					}
				}
			case <-stopped:
				return
			}
		}
	}()
}

// stop takes the server away, with all connections.
func (e *etcd) stop() {
	e.rpc.Stop()
	e.server.HardStop()
}

// dial connects to the server as it is now.
func (e *etcd) dial() (net.Conn, error) { return e.door.Load().Dial() }

// client is a client and the network between it and the server.
type client struct {
	*clientv3.Client
	net *faultproxy.Proxy
}

// latency is that of each direction.
const latency = time.Millisecond

func (e *etcd) client() *client {
	e.t.Helper()
	front := bufconn.Listen(64 << 10)
	c := &client{net: faultproxy.Between(front, e.dial)}
	c.net.Delay(faultproxy.ToServer, latency)
	c.net.Delay(faultproxy.ToClient, latency)
	c.Client = e.connect(front.DialContext)
	start := time.Now()
	testhook.For(c.Client, testhook.Hooks{Clock: func() time.Duration { return time.Since(start) }})
	return c
}

// connect makes a client over connections that dial makes.
func (e *etcd) connect(dial func(context.Context) (net.Conn, error)) *clientv3.Client {
	e.t.Helper()
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"member:2379"},
		Logger:    zap.NewNop(),
		DialOptions: []grpc.DialOption{
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) }),
		},
	})
	require.NoError(e.t, err)
	return c
}

// calm ends what is wrong with the network.
func (c *client) calm() {
	c.net.Resume()
	c.net.Delay(faultproxy.ToServer, latency)
	c.net.Delay(faultproxy.ToClient, latency)
}

func (c *client) close() {
	c.Close()
	c.net.Close()
}
