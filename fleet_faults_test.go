package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// isUnavailable tells whether an error is what etcd's client reports of a connection that broke.
func isUnavailable(err error) bool {
	var etcd rpctypes.EtcdError
	if errors.As(err, &etcd) {
		return etcd.Code() == codes.Unavailable
	}
	return status.Code(err) == codes.Unavailable
}

// A fleetFault lets one thing go wrong, for an instance's process where it is about one.
type fleetFault struct {
	name string
	do   func(f *deployment, p *process, away time.Duration)
}

func fleetCut(name string, cut, mend func(*simetcd.Client)) fleetFault {
	return fleetFault{name, func(_ *deployment, p *process, away time.Duration) {
		cut(p.client)
		time.Sleep(away)
		mend(p.client)
	}}
}

// fleetFaults are all that can go wrong, beside the ends of processes.
var fleetFaults = []fleetFault{
	fleetCut("cut off, what was sent is lost", cut, heal),
	fleetCut("cut off, what was sent is late", cut, resume),
	fleetCut("requests are cut off, and late", cutRequests, resume),
	fleetCut("requests are cut off, and lost", cutRequests, heal),
	fleetCut("answers are cut off, and lost", cutReplies, heal),
	fleetCut("answers are cut off, and late", cutReplies, resume),
	{"connection is reset", func(_ *deployment, p *process, _ time.Duration) { p.client.Reset() }},
	{"hears late, and then nothing", func(f *deployment, p *process, away time.Duration) {
		f.late.Store(p.id, true)
		time.Sleep(away)
		f.late.Delete(p.id)
		p.client.Cut()
		time.Sleep(away)
		p.client.Heal()
	}},
	{"the machine sleeps", (*deployment).sleepOf},
	{"the address of crash detection is silent", func(f *deployment, p *process, away time.Duration) {
		if p.address != "" {
			f.net.setSilent(p.address, true)
			time.Sleep(away)
			f.net.setSilent(p.address, false)
		}
	}},
	{"etcd stops, and starts", func(f *deployment, _ *process, away time.Duration) {
		f.Stop()
		time.Sleep(away)
		f.Start()
	}},
	{"etcd is restored from a snapshot", (*deployment).restore},
	{"new raft leader", func(f *deployment, _ *process, _ time.Duration) { f.NewLeader() }},
	{"compaction", func(f *deployment, _ *process, _ time.Duration) { f.Compact(0) }},
	{"watches break", func(f *deployment, _ *process, _ time.Duration) { f.CutWatches() }},
	{"watches are cancelled", func(f *deployment, _ *process, _ time.Duration) {
		f.CancelWatches("etcdserver: mvcc: made for a test")
	}},
	{"a deletion is told to nobody", func(f *deployment, _ *process, _ time.Duration) {
		if key, ok := f.anyKey(); ok {
			f.missing = append(f.missing, key)
			f.MissDelete(key)
		}
	}},
	{"a key is deleted by an administrator", func(f *deployment, _ *process, _ time.Duration) {
		if key, ok := f.anyKey(); ok && !f.isMissing(key) {
			f.asAdmin(func() { f.DeleteKey(key) })
		}
	}},
	{"a lease is revoked by an administrator", func(f *deployment, _ *process, _ time.Duration) {
		if leases := f.Leases(); len(leases) > 0 {
			id := leases[f.rand.IntN(len(leases))]
			if f.isMissing(fmt.Sprintf("/%x", int64(id))) {
				return
			}
			f.note("it is lease %x", int64(id))
			f.asAdmin(func() { f.RevokeLease(id) })
		}
	}},
}

// restore puts etcd back to its data of a few seconds before, as an operator does without a better backup.
func (f *deployment) restore(_ *process, away time.Duration) {
	snap := f.Snapshot()
	time.Sleep(away)
	f.Stop()
	time.Sleep(away)
	// The cluster has another ID, as docs/operating.md advises: without it there are restores that no session can
	// notice, and what came back with the backup stays. rollback_test.go has the scripts of restores that keep the ID.
	how := simetcd.Restored{Cluster: 1 + f.rand.Uint64()>>1}
	if f.rand.IntN(2) == 0 {
		how.BumpRevision, how.MarkCompacted = 1_000_000, true
	}
	f.otherHistory(2 * (fleetTTL + fleetDelay))
	f.Restore(snap, how)
	f.Start()
}

// isMissing reports whether no watch will see the deletion of a key that ends like this; see simulation.isMissing.
func (f *deployment) isMissing(end string) bool {
	for _, key := range f.missing {
		if strings.Contains(key, end) {
			return true
		}
	}
	return false
}

// anyKey picks one of the queues' keys in etcd.
func (f *deployment) anyKey() (key string, ok bool) {
	var keys []string
	for _, kv := range f.Keys("") {
		if key := string(kv.Key); strings.Contains(key, "/") && !strings.Contains(key, "\x00") {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return "", false
	}
	key = keys[f.rand.IntN(len(keys))]
	f.note("it is %q", key)
	return key, true
}

// sleepOf has the machine of a process sleep between two instants of its own; see simulation.sleepOf. A
// function that was told to stop in time is not held to the margin then.
func (f *deployment) sleepOf(p *process, away time.Duration) {
	var leases []clientv3.LeaseID
	f.leaseOf.Range(func(id, of any) bool {
		if of.(*process) == p {
			leases = append(leases, id.(clientv3.LeaseID))
		}
		return true
	})
	f.outlives(p.inst.n)
	f.clocks[p.inst.n].Add(int64(away))
	f.lookAtTheClock(p.inst.n)
	synctest.Wait()
	for _, id := range leases {
		f.AgeLease(id, away)
	}
}

// disturb makes faults until it is told to stop.
func (f *deployment) disturb(stop <-chan struct{}) {
	sum := 0
	shares := make([]int, len(fleetFaults)) // how often each, by the seed; some not at all
	for sum == 0 {
		for i := range shares {
			shares[i] = max(f.rand.IntN(6)-2, 0)
			sum += shares[i]
		}
	}
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(1 + f.rand.Int64N(int64(4*time.Second)))):
		}
		p := f.instances[f.rand.IntN(len(f.instances))].present.Load()
		if p == nil || p.dead() || p.ending.Load() {
			continue
		}
		i, n := 0, f.rand.IntN(sum)
		for ; n >= shares[i]; i++ {
			n -= shares[i]
		}
		away := time.Duration(1 + f.rand.Int64N(int64(5*time.Second)))
		f.note("FAULT: %s: %s (%v)", p.id, fleetFaults[i].name, away)
		f.cover.fault(i)
		fleetFaults[i].do(f, p, away)
		f.note("%s: over: %s", p.id, fleetFaults[i].name)
	}
}

// perturb looks at each request, and delays and loses some.
func (f *deployment) perturb(c simetcd.Call) simetcd.Action {
	of, ok := f.clientOf.Load(c.Client)
	if !ok {
		return simetcd.Action{} // another library's
	}
	p := of.(*process)
	f.look(p, c)
	if f.well.Load() {
		return simetcd.Action{}
	}
	r := newRand(f.seed, uint64(c.N)<<16|uint64(c.Kind)<<8^hash(c.Client))
	if _, late := f.late.Load(c.Client); late {
		return simetcd.Action{DelayReply: time.Duration(r.Int64N(int64(3 * time.Second)))}
	}
	if c.Kind == simetcd.Watch || c.Kind == simetcd.WatchCancel || c.Kind == simetcd.WatchProgress {
		return simetcd.Action{} // of a stream nothing is lost alone
	}
	later := time.Duration(r.Int64N(int64(5 * time.Second)))
	n := r.IntN(200)
	for i, act := range []simetcd.Action{
		{DelayReply: later}, {DelayRequest: later}, {DropReply: true}, {DropRequest: true}, {Err: rpctypes.ErrGRPCLeaderChanged}, {ErrAfter: rpctypes.ErrGRPCTimeout},
	} {
		if n -= f.rates[i]; n < 0 {
			f.note("%s: %v %d %s: %+v", c.Client, c.Kind, c.N, about(c.Req), act)
			return act
		}
	}
	return simetcd.Action{}
}

// look takes note of what a request shows of the options of its process.
func (f *deployment) look(p *process, c simetcd.Call) {
	switch req := c.Req.(type) {
	case *pb.LeaseGrantRequest:
		f.leases.Add(1)
		if time.Duration(req.TTL)*time.Second == p.row.duration("session.WithTTL")+p.row.duration("session.WithLockDelay") {
			p.effect("session.WithTTL")
		}
	case *pb.LeaseKeepAliveRequest:
		f.leaseOf.Store(clientv3.LeaseID(req.ID), p)
	case *pb.LeaseRevokeRequest:
		if of, ok := f.leaseOf.Load(clientv3.LeaseID(req.ID)); ok && of.(*process) != p && of.(*process).dead() {
			p.tells("a dead leader's lease was revoked")
		}
	case *pb.RangeRequest:
		f.looksForCycles(p, req)
	case *pb.TxnRequest:
		for _, op := range req.Success {
			if put := op.GetRequestPut(); put != nil && strings.HasPrefix(string(put.Key), wire.LivenessPrefix) && strings.Contains(string(put.Value), p.address) && p.address != "" {
				p.effect("session.WithCrashDetection")
			}
		}
	}
}

// looksForCycles takes note of a reading of everything under the prefix of deadlock detection.
func (f *deployment) looksForCycles(p *process, req *pb.RangeRequest) {
	for _, at := range []string{"lock", "session"} {
		id := at + ".WithDeadlockDetection"
		if p.row.has(id) && len(req.RangeEnd) > 0 && string(req.Key) == detectionFrom(p.row.text(id)) {
			p.effect(id)
			return
		}
	}
}

// detectionFrom is where a reading of a prefix begins.
func detectionFrom(prefix string) string {
	if prefix == "" {
		return "\x00"
	}
	return prefix
}

// quieten ends all faults.
func (f *deployment) quieten() {
	f.note("all is well from here")
	f.well.Store(true)
	f.Start()
	for _, in := range f.instances {
		if p := in.present.Load(); p != nil {
			p.client.Heal()
			if p.address != "" {
				f.net.setSilent(p.address, false)
			}
		}
	}
	f.late.Clear()
	synctest.Wait()
}

// strangers are clients of other libraries in the queues of the fleet.
func (f *deployment) strangers(stop <-chan struct{}) {
	for _, s := range []stranger{&etcdsOwn{theirs{client: f.Client("etcd"), server: f.Server}, f}, &compatible{f: f, client: f.Client("compat")}} {
		r := newRand(f.seed, hash(s.name()))
		f.crowd.Go(func() { f.strange(s, r, stop) })
	}
	f.crowd.Go(func() { // trap A12: etcd's own Unlock waits for a lost answer until the connection breaks
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Second):
				f.Client("etcd").Reset()
			}
		}
	})
}

// A stranger is a client of another library.
type stranger interface {
	name() string
	// claim locks or campaigns; the hold is to be released by release.
	claim(ctx context.Context, name string) (h *fleetHold, done <-chan struct{}, release func(context.Context) error, err error)
	// end ends the session; with it goes all that is left of it, by one of the ways that there are.
	end(r *rand.Rand)
}

func (f *deployment) strange(s stranger, r *rand.Rand, stop <-chan struct{}) {
	defer s.end(newRand(0, 0))
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(1 + r.Int64N(int64(3*time.Second)))):
		}
		name := []string{"m", "e"}[r.IntN(2)]
		ctx, cancel := context.WithTimeout(f.ctx, time.Duration(1+r.Int64N(int64(10*time.Second))))
		h, done, release, err := s.claim(ctx, name)
		cancel()
		if err != nil {
			f.note("%s does not get %s: %v", s.name(), name, err)
			s.end(r)
			continue
		}
		f.cover.op(s.name() + " " + name)
		f.granted(h)
		select {
		case <-done:
		case <-time.After(time.Duration(1 + r.Int64N(int64(time.Second)))):
		}
		f.releasing(h)
		ctx, cancel = context.WithTimeout(f.ctx, 5*time.Second)
		err = release(ctx)
		cancel()
		f.note("%s has released %s: %v", s.name(), name, err)
		if err != nil || r.IntN(8) == 0 {
			s.end(r)
		}
	}
}
