package simetcd

import (
	"context"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/leaseid"
	"github.com/etcdlock/etcdlock/internal/testhook"
)

// A Client is an etcd client and, by its further methods, the network between it and the server. Each has a link of its
// own; the methods act on that one only.
//
// A cut stops messages silently: callers wait until their context ends, streams fall silent, and neither side knows. It
// stops what is sent while it lasts and what would arrive while it lasts. How it ends decides what becomes of that:
//
//   - Heal: the connection was given up. Stopped messages are lost. Calls and streams that lost a message fail with
//     codes.Unavailable, so that no stream continues with a gap. All others continue.
//   - Resume: the connection survived, and TCP delivers all stopped messages, late but complete.
//   - Reset: no stopped message arrives, and all calls and streams fail.
type Client struct {
	*clientv3.Client
	link *link
}

// Client returns the client of that name, and makes one when there is none or it has been closed; the new one counts its
// requests, and draws its latencies, from the beginning.
func (s *Server) Client(name string) *Client {
	s.mu.Lock()
	for _, l := range s.links {
		if l.name == name {
			s.mu.Unlock()
			return l.client.(*Client)
		}
	}
	l := &link{
		srv: s, name: name, salt: hashName(name), closing: make(chan struct{}),
	}
	l.network = network{sched: s.sched, seed: s.cfg.Seed, salt: l.salt, min: s.cfg.MinLatency, max: s.cfg.MaxLatency}
	var opts []clientv3.Option
	if s.cfg.Logger != nil {
		opts = append(opts, clientv3.WithZapLogger(s.cfg.Logger.Named(name)))
	}
	cl := clientv3.NewCtxClient(context.Background(), opts...)
	cl.KV = clientv3.NewKVFromKVClient(remote{l}, cl)
	// The timeout is what clientv3.New would pass for its default DialTimeout.
	cl.Lease = lastClosed{clientv3.NewLeaseFromLeaseClient(leaseid.Choose(remote{l}, l.chooseLeaseID), cl, time.Second), l}
	cl.Watcher = clientv3.NewWatchFromWatchClient(remote{l}, cl)
	if s.cfg.Reproducible {
		cl.Watcher = &apart{Watcher: cl.Watcher, link: l}
	}
	testhook.For(cl, testhook.Hooks{Clock: func() time.Duration { return time.Since(s.sched.start) }})
	made := &Client{Client: cl, link: l}
	l.client = made
	s.links = append(s.links, l)
	s.mu.Unlock()
	return made
}

// chooseLeaseID is an ID for a client that asks for a lease by its ID. Each client has IDs of its own, so that
// a run is the same again when several ask at one instant.
func (l *link) chooseLeaseID() clientv3.LeaseID {
	l.srv.mu.Lock()
	defer l.srv.mu.Unlock()
	return clientv3.LeaseID(l.srv.lessor.pickIDOf(l.salt))
}

// lastClosed closes the link when the client is closed: after watches and renewals, which end by themselves and in their
// own ways, and before Close returns. A clientv3.Client has no other place to learn that from.
type lastClosed struct {
	clientv3.Lease
	link *link
}

func (c lastClosed) Close() error {
	err := c.Lease.Close()
	c.link.locked(c.link.close)
	return err
}

// Remote returns the gRPC clients that the clientv3.Client is built on, for tests that speak the protocol itself.
func (c *Client) Remote() interface {
	pb.KVClient
	pb.LeaseClient
	pb.WatchClient
} {
	return remote{c.link}
}

// Name returns the client's name.
func (c *Client) Name() string { return c.link.name }

// Close closes the client, as closing the clientv3.Client does; the server knows at once.
func (c *Client) Close() error {
	// Without a connection, clientv3 has nothing else to return than that its context is cancelled.
	_ = c.Client.Close()
	return nil
}

// SetLatency sets the bounds of the latency of each direction, for messages sent from now on. Messages of one stream
// keep their order; single calls may overtake each other.
func (c *Client) SetLatency(lowest, highest time.Duration) {
	c.link.locked(func() { c.link.network.min, c.link.network.max = lowest, highest })
}

// CutRequests cuts the way to the server: requests vanish, while answers and watch events arrive.
func (c *Client) CutRequests() { c.link.locked(func() { c.link.network.cutReq = true }) }

// CutReplies cuts the way from the server: requests take effect, and their answers are lost.
func (c *Client) CutReplies() { c.link.locked(func() { c.link.network.cutRep = true }) }

// Cut cuts both ways.
func (c *Client) Cut() {
	c.link.locked(func() { c.link.network.cutReq, c.link.network.cutRep = true, true })
}

// Heal ends every cut. Stopped messages are lost, and calls and streams that lost a message fail with codes.Unavailable.
func (c *Client) Heal() {
	c.link.locked(func() {
		for _, m := range c.link.network.mend() {
			if m.broken != nil {
				m.broken(errUnavailable)
			}
		}
	})
}

// Resume ends every cut; what it stopped is delivered now, in its order and each message with a latency. A renewal of a
// lease or a delete can thus take effect long after its caller has given up.
func (c *Client) Resume() {
	c.link.locked(func() {
		for _, m := range c.link.network.mend() {
			c.link.network.transmit(m)
		}
	})
}

// Reset breaks the open streams and the calls in flight with codes.Unavailable, as a closed TCP connection does.
// Requests on their way to the server still arrive, unless a cut has stopped them. A cut stays.
func (c *Client) Reset() { c.link.locked(func() { c.link.breakAll(errUnavailable) }) }

// Count returns how many requests of these kinds the client has sent; of all kinds, when none is given.
func (c *Client) Count(of ...Kind) int {
	c.link.srv.mu.Lock()
	defer c.link.srv.mu.Unlock()
	n := 0
	for k := Kind(1); k < kinds; k++ {
		if len(of) == 0 || slices.Contains(of, k) {
			n += c.link.sent[k] - c.link.base[k]
		}
	}
	return n
}

// ResetCounts makes Count begin at zero.
func (c *Client) ResetCounts() { c.link.locked(func() { c.link.base = c.link.sent }) }
