// Package devetcd gives the examples an etcd to talk to: the one at the
// endpoints they were given, or a throw-away one inside their own process.
package devetcd

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/etcdlock/etcdlock"
)

// readyTimeout bounds the start. A single node elects itself after about a
// second, so this is for machines that are very busy.
const readyTimeout = 30 * time.Second

// Server is a single-node etcd inside this process.
type Server struct {
	etcd *embed.Etcd
	dir  string
}

// Start starts an etcd with an empty data directory of its own on a free
// loopback port and returns when it can be written to. On failure nothing is
// left behind.
func Start(ctx context.Context) (*Server, error) {
	dir, err := os.MkdirTemp("", "etcdlock-devetcd-")
	if err != nil {
		return nil, fmt.Errorf("devetcd: data directory: %w", err)
	}
	etcd, err := embed.StartEtcd(config(dir))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("devetcd: start: %w", err), os.RemoveAll(dir))
	}
	s := &Server{etcd: etcd, dir: dir}

	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("not ready within %v", readyTimeout))
	defer cancel()
	select {
	case <-etcd.Server.ReadyNotify():
		return s, nil
	case err = <-etcd.Err():
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	// Close waits for the listeners, and these wait until the server is ready
	// or stopping: so stop it first.
	etcd.Server.Stop()
	return nil, errors.Join(fmt.Errorf("devetcd: start: %w", err), s.Close())
}

func config(dir string) *embed.Config {
	// Port 0: the system picks a free port at the moment of listening, so no
	// other program can take it in between.
	loopback := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}

	cfg := embed.NewConfig()
	cfg.Name = "devetcd"
	cfg.Dir = dir
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = loopback, loopback
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = loopback, loopback
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	cfg.EnableGRPCGateway = false // it would dial the port as configured, which is 0
	cfg.UnsafeNoFsync = true      // the data is deleted at the end, so it need not survive a crash
	return cfg
}

// Endpoint is where clients reach the server.
func (s *Server) Endpoint() string { return s.etcd.Clients[0].Addr().String() }

// Close stops the server and removes its data.
func (s *Server) Close() error {
	s.etcd.Close()
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("devetcd: remove data directory: %w", err)
	}
	return nil
}

// Connect returns a client for the comma-separated endpoints. When there are
// none, it starts a server inside this process for it. The returned function
// closes what Connect opened.
func Connect(ctx context.Context, endpoints string) (*clientv3.Client, func(), error) {
	if endpoints != "" {
		client, err := Dial(endpoints)
		if err != nil {
			return nil, nil, err
		}
		return client, func() { warn(client.Close()) }, nil
	}

	server, err := Start(ctx)
	if err != nil {
		return nil, nil, err
	}
	client, err := Dial(server.Endpoint())
	if err != nil {
		return nil, nil, errors.Join(err, server.Close())
	}
	return client, func() {
		warn(client.Close())
		warn(server.Close())
	}, nil
}

// Dial returns a client for the comma-separated endpoints. It does not wait
// for a connection: the first request does that, bounded by its context.
func Dial(endpoints string) (*clientv3.Client, error) {
	client, err := clientv3.New(clientv3.Config{
		Endpoints: strings.Split(endpoints, ","),
		// The examples tell their story on standard output and report every
		// error themselves. A service would keep its logger here.
		Logger: zap.NewNop(),
	})
	if err != nil {
		return nil, fmt.Errorf("devetcd: client for %s: %w", endpoints, err)
	}
	return client, nil
}

// NewSession returns a session, and a function that closes the session and
// prints an error. Both have a timeout, so that a program with a wrong address
// ends with an error.
func NewSession(ctx context.Context, client *clientv3.Client, opts ...etcdlock.SessionOption) (*etcdlock.Session, func(), error) {
	// The context bounds the creation only; the session lives until Close.
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	session, err := etcdlock.NewSession(ctx, client, opts...)
	if err != nil {
		return nil, nil, err
	}
	return session, func() {
		// A context of its own: the program's is over when it was told to end,
		// and giving back what is held needs a little time.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		warn(session.Close(ctx))
	}, nil
}

// warn prints an error of a clean-up, which does not change the outcome.
func warn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "warning:", err)
	}
}
