package simetcd

import (
	"context"
	"io"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// remote is the server as a client's link shows it: the gRPC clients that clientv3 is built on.
type remote struct{ *link }

var (
	_ pb.KVClient    = remote{}
	_ pb.LeaseClient = remote{}
	_ pb.WatchClient = remote{}
)

// invoke is roundTrip with types.
func invoke[Resp any](ctx context.Context, l *link, kind Kind, req proto.Message, apply func() (*Resp, error)) (*Resp, error) {
	resp, err := l.roundTrip(ctx, kind, req, func() (any, error) { return apply() })
	if err != nil {
		return nil, err
	}
	return resp.(*Resp), nil
}

func (r remote) Range(ctx context.Context, req *pb.RangeRequest, _ ...grpc.CallOption) (*pb.RangeResponse, error) {
	return invoke(ctx, r.link, Range, req, func() (*pb.RangeResponse, error) {
		if err := checkRange(req); err != nil {
			return nil, err
		}
		resp, err := r.srv.store.rangeAt(req, r.srv.store.rev)
		if err != nil {
			return nil, err
		}
		r.srv.member.header(resp.Header)
		return resp, nil
	})
}

// RangeStream answers in one piece, which etcd may do too.
func (r remote) RangeStream(ctx context.Context, req *pb.RangeRequest, opts ...grpc.CallOption) (pb.KV_RangeStreamClient, error) {
	resp, err := r.Range(ctx, req, opts...)
	if err != nil {
		return nil, err
	}
	return &oneChunk{chunk: &pb.RangeStreamResponse{RangeResponse: resp}}, nil
}

type oneChunk struct {
	grpc.ClientStream
	chunk *pb.RangeStreamResponse
}

func (c *oneChunk) Recv() (*pb.RangeStreamResponse, error) {
	chunk := c.chunk
	c.chunk = nil
	if chunk == nil {
		return nil, io.EOF
	}
	return chunk, nil
}

func (r remote) Put(ctx context.Context, req *pb.PutRequest, _ ...grpc.CallOption) (*pb.PutResponse, error) {
	return invoke(ctx, r.link, Put, req, func() (*pb.PutResponse, error) {
		if err := checkPut(req); err != nil {
			return nil, err
		}
		t := r.srv.begin()
		if err := t.checkPut(req); err != nil {
			return nil, err
		}
		resp := t.put(req)
		r.srv.commit(t)
		r.srv.member.header(resp.Header)
		return resp, nil
	})
}

func (r remote) DeleteRange(ctx context.Context, req *pb.DeleteRangeRequest, _ ...grpc.CallOption) (*pb.DeleteRangeResponse, error) {
	return invoke(ctx, r.link, Delete, req, func() (*pb.DeleteRangeResponse, error) {
		if err := checkDelete(req); err != nil {
			return nil, err
		}
		t := r.srv.begin()
		resp := t.deleteRange(req)
		r.srv.commit(t)
		r.srv.member.header(resp.Header)
		return resp, nil
	})
}

func (r remote) Txn(ctx context.Context, req *pb.TxnRequest, _ ...grpc.CallOption) (*pb.TxnResponse, error) {
	kind := Txn
	if readOnly(req) {
		kind = TxnReadOnly
	}
	return invoke(ctx, r.link, kind, req, func() (*pb.TxnResponse, error) {
		if err := checkTxn(req, r.srv.cfg.MaxTxnOps); err != nil {
			return nil, err
		}
		t := r.srv.begin()
		resp, err := t.run(req)
		if err != nil {
			return nil, err
		}
		r.srv.commit(t)
		r.srv.member.header(resp.Header)
		return resp, nil
	})
}

func (r remote) Compact(ctx context.Context, req *pb.CompactionRequest, _ ...grpc.CallOption) (*pb.CompactionResponse, error) {
	return invoke(ctx, r.link, Compact, req, func() (*pb.CompactionResponse, error) {
		if err := r.srv.compact(req.Revision); err != nil {
			return nil, err
		}
		return &pb.CompactionResponse{Header: r.srv.member.header(&pb.ResponseHeader{})}, nil
	})
}

func (s *Server) compact(rev int64) error {
	switch {
	case rev <= s.store.compacted:
		return rpctypes.ErrGRPCCompacted
	case rev > s.store.rev:
		return rpctypes.ErrGRPCFutureRev
	}
	s.store.compact(rev)
	return nil
}

func (r remote) LeaseGrant(ctx context.Context, req *pb.LeaseGrantRequest, _ ...grpc.CallOption) (*pb.LeaseGrantResponse, error) {
	return invoke(ctx, r.link, LeaseGrant, req, func() (*pb.LeaseGrantResponse, error) {
		id := req.ID
		if id == 0 {
			id = r.srv.lessor.pickID()
		}
		l, err := r.srv.lessor.grant(id, req.TTL)
		if err != nil {
			return nil, err
		}
		return &pb.LeaseGrantResponse{Header: r.srv.member.header(&pb.ResponseHeader{}), ID: l.id, TTL: l.ttl}, nil
	})
}

func (r remote) LeaseRevoke(ctx context.Context, req *pb.LeaseRevokeRequest, _ ...grpc.CallOption) (*pb.LeaseRevokeResponse, error) {
	return invoke(ctx, r.link, LeaseRevoke, req, func() (*pb.LeaseRevokeResponse, error) {
		if r.srv.lessor.get(req.ID) == nil {
			return nil, rpctypes.ErrGRPCLeaseNotFound
		}
		r.srv.revoke(req.ID)
		return &pb.LeaseRevokeResponse{Header: r.srv.member.header(&pb.ResponseHeader{})}, nil
	})
}

func (r remote) LeaseTimeToLive(ctx context.Context, req *pb.LeaseTimeToLiveRequest, _ ...grpc.CallOption) (*pb.LeaseTimeToLiveResponse, error) {
	return invoke(ctx, r.link, LeaseTimeToLive, req, func() (*pb.LeaseTimeToLiveResponse, error) {
		resp := &pb.LeaseTimeToLiveResponse{Header: r.srv.member.header(&pb.ResponseHeader{}), ID: req.ID, TTL: -1}
		l := r.srv.lessor.get(req.ID)
		if l == nil {
			return resp, nil
		}
		resp.TTL = int64(time.Duration(l.expiry-r.srv.sched.now()) / time.Second)
		resp.GrantedTTL = l.ttl
		if req.Keys {
			for _, key := range l.sortedKeys() {
				resp.Keys = append(resp.Keys, []byte(key))
			}
		}
		return resp, nil
	})
}

func (r remote) LeaseLeases(ctx context.Context, req *pb.LeaseLeasesRequest, _ ...grpc.CallOption) (*pb.LeaseLeasesResponse, error) {
	return invoke(ctx, r.link, LeaseLeases, req, func() (*pb.LeaseLeasesResponse, error) {
		return &pb.LeaseLeasesResponse{Header: r.srv.member.header(&pb.ResponseHeader{}), Leases: r.srv.lessor.status()}, nil
	})
}
