package etcdlocktest

import (
	"time"

	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Kind is a kind of request.
type Kind int

// The kinds of requests. A renewal, and the creation of a watch, are messages of a stream and count
// as requests too.
const (
	KindRead   Kind = iota // of keys
	KindWrite              // a put, a deletion, or a transaction with one of them
	KindGrant              // of a lease
	KindRenew              // of a lease
	KindRevoke             // of a lease
	KindWatch              // the creation of a watch
	KindOther              // everything else
	kinds
)

// String returns the name of the kind in lower case.
func (k Kind) String() string {
	if k < 0 || k >= kinds {
		return "unknown"
	}
	return [kinds]string{"read", "write", "grant", "renew", "revoke", "watch", "other"}[k]
}

// Request is one request when its process sends it.
type Request struct {
	Process string
	Kind    Kind
	N       int           // counts the requests of this kind from this process, from 1
	Message proto.Message // of package etcdserverpb; not to be modified
}

// Action is what happens to a request. The zero value lets it pass.
type Action struct {
	// DelayRequest and DelayReply are added to the latency of either direction.
	DelayRequest, DelayReply time.Duration
	// DropRequest loses the request. The process waits until its own limit.
	DropRequest bool
	// DropReply loses the answer to a request that takes effect.
	DropReply bool
	// Err is the answer of etcd, and nothing takes effect. Use the errors ErrGRPC... of package
	// rpctypes, or one of package status of gRPC. For KindRenew and KindWatch it breaks the stream.
	Err error
}

// Intercept lets decide decide on every request from now on. nil lets every request pass. decide runs
// in the goroutine that sends the request, and may call any method of the etcd and its processes.
// Several calls can run at the same time.
func (e *Etcd) Intercept(decide func(Request) Action) {
	e.intercept.Store(&decide)
}

// Requests returns how many requests of these kinds the process has sent, of all kinds without an
// argument.
func (p *Process) Requests(of ...Kind) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(of) == 0 {
		for _, m := range p.requests {
			n += m
		}
	}
	for _, k := range of {
		n += p.requests[k]
	}
	return n
}

// faults are those of the requests of a process.
type faults struct {
	slowRenewals time.Duration
	dropRenewals bool
	lose         [kinds]int // answers that are still to be lost
}

// asks counts a request and tells what happens to it.
func (p *Process) asks(msg proto.Message) Action {
	r := Request{Process: p.name, Kind: kindOf(msg), Message: msg}
	var own Action
	r.N, own = p.count(r.Kind)
	eachLease(msg, func(id int64) { p.etcd.fleet.uses(p, clientv3.LeaseID(id)) })
	decide := p.etcd.intercept.Load()
	if decide == nil || *decide == nil {
		return own
	}
	act := (*decide)(r)
	act.DropRequest, act.DropReply = act.DropRequest || own.DropRequest, act.DropReply || own.DropReply
	act.DelayReply += own.DelayReply
	return act
}

// count counts a request, and tells what the faults of the process do to it.
func (p *Process) count(kind Kind) (n int, own Action) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests[kind]++
	switch {
	case p.faults.lose[kind] > 0:
		p.faults.lose[kind]--
		own.DropReply = true
	case kind == KindRenew:
		own.DropRequest, own.DelayReply = p.faults.dropRenewals, p.faults.slowRenewals
	}
	return p.requests[kind], own
}

func kindOf(msg proto.Message) Kind {
	switch r := msg.(type) {
	case *pb.RangeRequest:
		return KindRead
	case *pb.PutRequest, *pb.DeleteRangeRequest:
		return KindWrite
	case *pb.TxnRequest:
		if readsOnly(r) {
			return KindRead
		}
		return KindWrite
	case *pb.LeaseGrantRequest:
		return KindGrant
	case *pb.LeaseKeepAliveRequest:
		return KindRenew
	case *pb.LeaseRevokeRequest:
		return KindRevoke
	case *pb.WatchRequest:
		if r.GetCreateRequest() != nil {
			return KindWatch
		}
	}
	return KindOther
}

func readsOnly(r *pb.TxnRequest) bool {
	for _, ops := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range ops {
			if nested := op.GetRequestTxn(); op.GetRequestRange() == nil && (nested == nil || !readsOnly(nested)) {
				return false
			}
		}
	}
	return true
}

// eachLease finds the leases by which a request grants, renews or writes.
func eachLease(msg proto.Message, found func(id int64)) {
	switch r := msg.(type) {
	case *pb.LeaseGrantRequest:
		found(r.ID) // 0 if etcd is to choose it
	case *pb.LeaseKeepAliveRequest:
		found(r.ID)
	case *pb.PutRequest:
		found(r.Lease)
	case *pb.TxnRequest:
		for _, ops := range [][]*pb.RequestOp{r.Success, r.Failure} {
			for _, op := range ops {
				if put := op.GetRequestPut(); put != nil {
					found(put.Lease)
				}
				if nested := op.GetRequestTxn(); nested != nil {
					eachLease(nested, found)
				}
			}
		}
	}
}
