package bubble

import (
	"context"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/faultproxy"
)

// A fault lets one thing go wrong for a client, for as long as away where it lasts.
type fault struct {
	name string
	do   func(s *schedule, c *client, away time.Duration)
}

// cutting is a fault of the network, after which what was held back is late, or lost
// with the connection.
func cutting(name string, lost bool, directions ...faultproxy.Direction) fault {
	return fault{name, func(_ *schedule, c *client, away time.Duration) {
		c.net.Hold(directions...)
		time.Sleep(away)
		if lost {
			c.net.Drop()
		}
		c.calm()
	}}
}

var faults = []fault{
	cutting("cut off, what was sent is lost", true),
	cutting("cut off, what was sent is late", false),
	cutting("requests are cut off, and late", false, faultproxy.ToServer),
	cutting("requests are cut off, and lost", true, faultproxy.ToServer),
	cutting("answers are cut off, and lost", true, faultproxy.ToClient),
	cutting("answers are cut off, and late", false, faultproxy.ToClient),
	{"connection is reset", func(_ *schedule, c *client, _ time.Duration) { c.net.Drop() }},
	{"connections are refused", func(_ *schedule, c *client, away time.Duration) {
		c.net.Refuse()
		c.net.Drop()
		time.Sleep(away)
		c.calm()
	}},
	{"hears late, and then nothing", func(_ *schedule, c *client, away time.Duration) {
		c.net.Delay(faultproxy.ToClient, away/3)
		time.Sleep(away)
		c.net.Hold()
		time.Sleep(away)
		c.net.Drop()
		c.calm()
	}},
	{"sends late", func(_ *schedule, c *client, away time.Duration) {
		c.net.Delay(faultproxy.ToServer, away/3)
		time.Sleep(away)
		c.calm()
	}},
	{"compaction", func(s *schedule, _ *client, _ time.Duration) {
		s.ask(func(ctx context.Context) error {
			resp, err := s.admin.Get(ctx, "any")
			if err == nil {
				_, err = s.admin.Compact(ctx, resp.Header.Revision)
			}
			return err
		})
	}},
	{"a key is deleted by an administrator", func(s *schedule, _ *client, _ time.Duration) {
		s.ask(func(ctx context.Context) error {
			resp, err := s.admin.Get(ctx, "", clientv3.WithFromKey(), clientv3.WithKeysOnly())
			if err != nil || len(resp.Kvs) == 0 {
				return err
			}
			key := string(resp.Kvs[s.rand.IntN(len(resp.Kvs))].Key)
			s.evict(key)
			_, err = s.admin.Delete(ctx, key)
			return err
		})
	}},
	{"a lease is revoked by an administrator", func(s *schedule, _ *client, _ time.Duration) {
		id := s.sessions[s.rand.IntN(len(s.sessions))].Lease()
		if id == clientv3.NoLease {
			return
		}
		s.evict(strconv.FormatInt(int64(id), 16))
		s.ask(func(ctx context.Context) error {
			_, err := s.admin.Revoke(ctx, id)
			return err
		})
	}},
	{"the server stops, and starts", func(s *schedule, _ *client, away time.Duration) {
		s.stop()
		time.Sleep(away)
		s.start(false)
	}},
}

// evict notes that an administrator takes away a key, or all keys of a lease.
func (s *schedule) evict(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.evicted[key] = true
}

// ask is something that an administrator does; whether it is done does not matter.
func (s *schedule) ask(do func(ctx context.Context) error) {
	ctx, cancel := context.WithTimeout(s.ctx, 2*time.Second)
	defer cancel()
	if err := do(ctx); err != nil {
		s.note("the administrator: %v", err)
	}
}

// disturb makes the faults, until it is told to stop.
func (s *schedule) disturb(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(s.rand.Int64N(int64(ttl)))):
		}
		i, who := s.rand.IntN(len(faults)), s.rand.IntN(clients)
		away := time.Duration(s.rand.Int64N(int64(2 * ttl)))
		s.tally.faults[i]++
		s.note("FAULT: client %d: %s (%v)", who, faults[i].name, away)
		faults[i].do(s, s.clients[who], away)
		s.note("over: %s", faults[i].name)
	}
}
