package etcdlocktest

import (
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/testhook"
)

// sim is an etcd in memory.
type sim struct {
	*simetcd.Server
	etcd *Etcd
}

func newSim(e *Etcd) *sim {
	s := &sim{etcd: e, Server: simetcd.New(simetcd.Config{
		Seed: e.cfg.seed, MinLatency: e.cfg.lowest, MaxLatency: e.cfg.highest, MinTTL: e.cfg.minTTL,
		Reproducible: e.cfg.bubble, WallClock: !e.cfg.bubble,
	})}
	s.OnEvent(func(int64, *mvccpb.Event) { e.ledger.change() })
	s.Intercept(s.asked)
	return s
}

func (s *sim) asked(call simetcd.Call) simetcd.Action {
	p := s.etcd.fleet.find(call.Client)
	if p == nil {
		return simetcd.Action{} // it has been killed
	}
	act := p.asks(call.Req)
	return simetcd.Action{
		DelayRequest: act.DelayRequest, DelayReply: act.DelayReply,
		DropRequest: act.DropRequest, DropReply: act.DropReply, Err: act.Err,
	}
}

func (s *sim) connect(p *Process) (*clientv3.Client, network, error) {
	c := s.Client(p.name)
	hooks := p.hooks()
	// As on a real connection, where the session does not go by the interfaces of clientv3.
	hooks.Renewals, hooks.Direct = c.Remote(), c.Remote()
	testhook.For(c.Client, hooks)
	return c.Client, &simNetwork{c, s.etcd.cfg}, nil
}

func (s *sim) stop()                                     { s.Stop() }
func (s *sim) start()                                    { s.Start() }
func (s *sim) newLeader()                                { s.NewLeader() }
func (s *sim) compact()                                  { s.Compact(0) }
func (s *sim) keys(prefix string) []*mvccpb.KeyValue     { return s.Keys(prefix) }
func (s *sim) leases() []clientv3.LeaseID                { return s.Leases() }
func (s *sim) revoke(id clientv3.LeaseID)                { s.RevokeLease(id) }
func (s *sim) remove(key string)                         { s.DeleteKey(key) }
func (s *sim) age(id clientv3.LeaseID, by time.Duration) { s.AgeLease(id, by) }
func (s *sim) close()                                    { s.Close() }

// simNetwork is the link of a client.
type simNetwork struct {
	*simetcd.Client
	cfg config
}

func (n *simNetwork) cut(requests, replies bool) {
	if requests {
		n.CutRequests()
	}
	if replies {
		n.CutReplies()
	}
}

func (n *simNetwork) heal()   { n.Heal() }
func (n *simNetwork) resume() { n.Resume() }
func (n *simNetwork) close()  {}

func (n *simNetwork) delay(by time.Duration) {
	lowest, highest := n.cfg.lowest, n.cfg.highest
	if lowest == 0 && highest == 0 {
		lowest, highest = simetcd.DefaultMinLatency, simetcd.DefaultMaxLatency
	}
	n.SetLatency(lowest+by, highest+by)
}
