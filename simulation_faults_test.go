package etcdlock

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// A fault lets one thing go wrong for a client, for as long as away where it lasts.
type fault struct {
	name string
	do   func(s *simulation, c *simetcd.Client, away time.Duration)
}

// cutting is a fault of the network: how it begins, and how it ends.
func cutting(name string, cut, mend func(*simetcd.Client)) fault {
	return fault{name, func(_ *simulation, c *simetcd.Client, away time.Duration) {
		cut(c)
		time.Sleep(away)
		mend(c)
	}}
}

var (
	cut, heal, resume = (*simetcd.Client).Cut, (*simetcd.Client).Heal, (*simetcd.Client).Resume
	cutRequests       = (*simetcd.Client).CutRequests
	cutReplies        = (*simetcd.Client).CutReplies
)

// faults are all that can go wrong. Each seed draws how often each of them does.
var faults = []fault{
	cutting("cut off, what was sent is lost", cut, heal),
	cutting("cut off, what was sent is late", cut, resume),
	cutting("requests are cut off, and late", cutRequests, resume),
	cutting("requests are cut off, and lost", cutRequests, heal),
	cutting("answers are cut off, and lost", cutReplies, heal),
	cutting("answers are cut off, and late", cutReplies, resume),
	{"connection is reset", func(_ *simulation, c *simetcd.Client, _ time.Duration) { c.Reset() }},
	{"hears late, and then nothing", func(s *simulation, c *simetcd.Client, away time.Duration) {
		s.late.Store(c.Name(), true)
		time.Sleep(away)
		s.late.Delete(c.Name())
		c.Cut()
		time.Sleep(away)
		c.Heal()
	}},
	{"sleeps", (*simulation).sleepOf},
	{"etcd stops, and starts", func(s *simulation, _ *simetcd.Client, away time.Duration) {
		s.Stop()
		time.Sleep(away)
		s.Start()
	}},
	{"new raft leader", func(s *simulation, _ *simetcd.Client, _ time.Duration) { s.NewLeader() }},
	{"compaction", func(s *simulation, _ *simetcd.Client, _ time.Duration) { s.Compact(0) }},
	{"watches break", func(s *simulation, _ *simetcd.Client, _ time.Duration) { s.CutWatches() }},
	{"watches are cancelled", func(s *simulation, _ *simetcd.Client, _ time.Duration) {
		s.CancelWatches("etcdserver: mvcc: made for a test")
	}},
	{"a deletion is told to nobody", func(s *simulation, _ *simetcd.Client, _ time.Duration) {
		if key, ok := s.anyKey(); ok {
			s.missing = append(s.missing, key)
			s.MissDelete(key)
		}
	}},
	{"a key is deleted by an administrator", func(s *simulation, _ *simetcd.Client, _ time.Duration) {
		if key, ok := s.anyKey(); ok && !s.isMissing(key) {
			s.deleted = append(s.deleted, s.Get(key))
			s.asAdmin(func() { s.DeleteKey(key) })
		}
	}},
	{"a lease is revoked by an administrator", func(s *simulation, _ *simetcd.Client, _ time.Duration) {
		if leases := s.Leases(); len(leases) > 0 {
			id := leases[s.rand.IntN(len(leases))]
			s.note("lease %x", int64(id))
			if s.isMissing(fmt.Sprintf("/%x", int64(id))) {
				return
			}
			s.asAdmin(func() { s.RevokeLease(id) })
		}
	}},
}

// isMissing tells whether the deletion of a key, or of one that ends like this, will be told to
// no watch. An administrator does not delete such a key: a waiter that loses its key without a
// report by its watch sees itself as the first one when all older ones have gone.
// This is known: a grant from the range cache relies on etcd to report the own key.
func (s *simulation) isMissing(end string) bool {
	return slices.ContainsFunc(s.missing, func(key string) bool { return strings.HasSuffix(key, end) })
}

// anyKey picks one of the keys in etcd.
func (s *simulation) anyKey() (key string, ok bool) {
	kvs := s.Keys("")
	if len(kvs) == 0 {
		return "", false
	}
	key = string(kvs[s.rand.IntN(len(kvs))].Key)
	s.note("it is %s", key)
	return key, true
}

// sleepOf has the machine of a client sleep, between two instants of its own: its clock
// has gone on and its timers have not, while in etcd its leases have run on. It
// may act before a timer fires, but a caller that asks gets the right answer.
func (s *simulation) sleepOf(c *simetcd.Client, away time.Duration) {
	var leases []clientv3.LeaseID
	for i, p := range s.parties {
		// The others have no clock that can be set.
		if o, ok := p.(ours); ok && i%simWorkers == 0 && o.session.Client() == c.Client {
			leases = append(leases, o.session.Lease())
		}
	}
	if leases == nil {
		return
	}
	s.clocks[c.Name()].Add(int64(away))
	s.look()
	synctest.Wait() // until all notifications are delivered
	for _, id := range leases {
		s.AgeLease(id, away)
	}
}

// look has all holders look at the clock.
func (s *simulation) look() {
	s.mu.Lock()
	var claims []claimed
	s.each(func(o *refereed) { claims = append(claims, o.claim) })
	s.mu.Unlock()
	for _, c := range claims {
		_ = c.Err()
	}
}

// weather is how often what goes wrong, by a seed.
type weather struct {
	faults []int  // of the faults, how often each
	sum    int    // of them
	rates  [4]int // single requests, out of 100: answered late, sent late, answer lost, lost
}

// newWeather leaves out a third of the faults in each seed, so that others meet more
// often.
func newWeather(r *rand.Rand) weather {
	w := weather{faults: make([]int, len(faults))}
	for w.sum == 0 {
		for i := range w.faults {
			w.faults[i] = max(r.IntN(6)-1, 0)
			w.sum += w.faults[i]
		}
	}
	for i := range w.rates {
		w.rates[i] = max(r.IntN(8)-2, 0)
	}
	return w
}

// draw picks a fault.
func (w *weather) draw(r *rand.Rand) int {
	n := r.IntN(w.sum)
	for i, share := range w.faults {
		if n -= share; n < 0 {
			return i
		}
	}
	panic("unreachable")
}

// disturb makes the faults, until it is told to stop.
func (s *simulation) disturb(stop <-chan struct{}) {
	s.Intercept(s.perturb)
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(s.rand.Int64N(int64(simTTL)))):
		}
		i := s.weather.draw(s.rand)
		c := s.Client(clientName(s.rand.IntN(simClients)))
		away := time.Duration(s.rand.Int64N(int64(2 * simTTL)))
		s.mu.Lock()
		s.tally.faults[i]++
		s.notef("FAULT: %s: %s (%v)", c.Name(), faults[i].name, away)
		s.mu.Unlock()
		faults[i].do(s, c, away)
		s.note("%s: over: %s", c.Name(), faults[i].name)
	}
}

// rescue resets all connections now and then. Without it etcd's own package waits without end
// for the answer to an Unlock that was lost. // trap A12
func (s *simulation) rescue(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(10 * simTTL):
		}
		for i := range simClients {
			s.Client(clientName(i)).Reset()
		}
	}
}

// perturb delays and loses single requests: a renewal answered late and then
// silence, an enqueue that took effect and was not answered, a delete that arrives
// when all clients have forgotten it.
func (s *simulation) perturb(c simetcd.Call) simetcd.Action {
	r := rand.New(rand.NewPCG(s.seed, uint64(c.N)<<16|uint64(c.Kind)<<8|uint64(c.Client[len(c.Client)-1])))
	what := fmt.Sprintf("%s: %v %d %s", c.Client, c.Kind, c.N, about(c.Req))
	if _, late := s.late.Load(c.Client); late {
		act := simetcd.Action{DelayReply: time.Duration(r.Int64N(int64(simTTL)))}
		s.note("%s, answered %v late", what, act.DelayReply)
		return act
	}
	later := time.Duration(r.Int64N(int64(2 * simTTL)))
	n := r.IntN(100)
	for i, trouble := range []struct {
		act simetcd.Action
		how string
	}{
		{simetcd.Action{DelayReply: later}, fmt.Sprintf("answered %v late", later)},
		{simetcd.Action{DelayRequest: later}, fmt.Sprintf("sent %v late", later)},
		{simetcd.Action{DropReply: true}, "the answer is lost"},
		{simetcd.Action{DropRequest: true}, "lost"},
	} {
		if n -= s.weather.rates[i]; n < 0 {
			s.note("%s, %s", what, trouble.how)
			return trouble.act
		}
	}
	s.note("%s", what)
	return simetcd.Action{}
}

// about is the key or the lease that a request is about.
func about(req proto.Message) string {
	switch r := req.(type) {
	case *pb.RangeRequest:
		return string(r.Key)
	case *pb.TxnRequest:
		if len(r.Compare) > 0 {
			return string(r.Compare[0].Key)
		}
		var keys []string
		for _, op := range r.Success {
			keys = append(keys, about(firstOf(op)))
		}
		return strings.Join(keys, " and ")
	case *pb.LeaseKeepAliveRequest:
		return fmt.Sprintf("%x", r.ID)
	case *pb.LeaseRevokeRequest:
		return fmt.Sprintf("%x", r.ID)
	case *pb.WatchRequest:
		return string(r.GetCreateRequest().GetKey())
	default:
		return ""
	}
}

func firstOf(op *pb.RequestOp) proto.Message {
	if txn := op.GetRequestTxn(); txn != nil {
		return txn
	}
	if put := op.GetRequestPut(); put != nil {
		return &pb.RangeRequest{Key: put.Key}
	}
	return op.GetRequestRange()
}

// calm ends all faults.
func (s *simulation) calm() {
	s.note("all is well from here")
	s.Intercept(nil)
	s.Start()
	for i := range simClients {
		s.Client(clientName(i)).Heal()
	}
	synctest.Wait()
}

// pace has the writes of one session that come at one instant come one after the other.
func (s *simulation) pace(ctx context.Context, name string) {
	h := fnv.New64a()
	h.Write([]byte(name))
	wait := time.NewTimer(time.Duration(1 + h.Sum64()%100_000))
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
	}
}
