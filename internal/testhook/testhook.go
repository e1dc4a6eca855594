// Package testhook is how tests, and package etcdlocktest, reach what the root does not export. In a
// program nothing is set here.
package testhook

import (
	"context"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/clock"
)

// Hooks are what the sessions of a client take from a test. A zero field changes nothing.
type Hooks struct {
	// Clock is the clock by which deadlines are counted: the time since any fixed point. It never
	// goes back, and advances while the machine sleeps.
	Clock func() time.Duration
	// Jumps calls look after each jump of Clock, until remove is called. nil means that Clock jumps
	// when the machine sleeps; see lease.Config.
	Jumps func(look func()) (remove func())
	// FromReceipt makes a session count its deadline from the receipt of an answer; see lease.Config.
	FromReceipt bool

	Network  Network                                // of crash detection
	Renewals pb.LeaseClient                         // opens the streams of renewals
	Watches  pb.WatchClient                         // opens the streams of watches
	Direct   Transactor                             // sends transactions past the client's KV; nil: etcdkv.Direct
	Slots    int                                    // of etcdkv.WriterConfig
	Pace     func(ctx context.Context, name string) // of etcdkv.WriterConfig

	// Opened is called with each *etcdlock.Session, by the goroutine that made it. A dedicated
	// session is that of an Election.Run, which closes it.
	Opened func(session any, dedicated bool)
	// Granted is called with each hold and its names, by the goroutine that waited for it.
	Granted func(hold any, names []string)

	// ShortQueue, Prefetch and Crowd are those of queue.Config.
	ShortQueue int
	Prefetch   int64
	Crowd      int64
}

// Network is a liveness.Network.
type Network interface {
	Listen(address string) (net.Listener, error)
	Dial(ctx context.Context, address string) (net.Conn, error)
}

// Transactor is an etcdkv.Transactor.
type Transactor interface {
	Txn(ctx context.Context, req *pb.TxnRequest, options ...grpc.CallOption) (*pb.TxnResponse, error)
}

// Root is what the root offers to etcdlocktest. The root sets it when it is initialised.
var Root struct {
	// SetMonitor gives an *etcdlock.Monitor an etcdlock.ElectionStatus and an *etcdlock.Term.
	SetMonitor func(monitor, status, term any)
}

var clients sync.Map // the Hooks of a *clientv3.Client

// For gives hooks to the sessions that are made on a client from now on, until the client is closed.
func For(client *clientv3.Client, hooks Hooks) {
	clients.Store(client, hooks)
	context.AfterFunc(client.Ctx(), func() { clients.Delete(client) })
}

// Of returns the hooks of a client. Without For only the clock is set, to the real one.
func Of(client *clientv3.Client) Hooks {
	var hooks Hooks
	if of, ok := clients.Load(client); ok {
		hooks = of.(Hooks)
	}
	if hooks.Clock == nil {
		hooks.Clock = clock.Now
	}
	return hooks
}
