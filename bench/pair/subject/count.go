package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// requests are counts of what all clients send to etcd.
type requests struct{ writes, reads, watches atomic.Int64 }

func (r *requests) options() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithChainUnaryInterceptor(r.unary), grpc.WithChainStreamInterceptor(r.stream)}
}

func (r *requests) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	switch req := req.(type) {
	case *pb.RangeRequest:
		r.reads.Add(1)
	case *pb.TxnRequest:
		if writes(req) {
			r.writes.Add(1)
		} else {
			r.reads.Add(1)
		}
	case *pb.PutRequest, *pb.DeleteRangeRequest:
		r.writes.Add(1)
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

// writes reports whether a transaction may write.
func writes(txn *pb.TxnRequest) bool {
	for _, ops := range [][]*pb.RequestOp{txn.Success, txn.Failure} {
		for _, op := range ops {
			if op.GetRequestRange() == nil {
				return true
			}
		}
	}
	return false
}

func (r *requests) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, err
	}
	return &counted{s, &r.watches}, nil
}

// counted is a stream whose messages for watches are counted.
type counted struct {
	grpc.ClientStream
	watches *atomic.Int64
}

func (c *counted) SendMsg(m any) error {
	if _, ok := m.(*pb.WatchRequest); ok {
		c.watches.Add(1)
	}
	return c.ClientStream.SendMsg(m)
}

// perPair returns how many requests a pair takes, of all callers, and says which. It also says how often the
// first member of etcd has synced its log, as each handover waits for that. It counts in the second half of
// the time, because the first pairs of a session take more.
func (s *subject) perPair(ctx context.Context, row string, span time.Duration, callers []caller) (float64, error) {
	var done atomic.Int64
	counts := func() (all [5]float64) {
		for i, c := range []*atomic.Int64{&s.requests.writes, &s.requests.reads, &s.requests.watches, &done} {
			all[i] = float64(c.Load())
		}
		all[4] = syncs(s.endpoints[0])
		return all
	}
	all := make([]caller, len(callers))
	for i, call := range callers {
		all[i] = func(ctx context.Context) error {
			err := call(ctx)
			if err == nil {
				done.Add(1)
			}
			return err
		}
	}
	half := make(chan [5]float64, 1)
	time.AfterFunc(span/2, func() { half <- counts() })
	if _, err := s.pairs(ctx, span, all); err != nil {
		return 0, err
	}
	before, now := <-half, counts()
	pairs := now[3] - before[3]
	per := func(i int) float64 { return (now[i] - before[i]) / pairs }
	fmt.Fprintf(os.Stderr, "%s: %.3f writes, %.3f reads, %.3f watch messages a pair, and %.3f syncs of etcd's log\n", row, per(0), per(1), per(2), per(4))
	return per(0) + per(1) + per(2), nil
}

// syncs returns how often a member of etcd has synced its log; 0 if the member does not tell.
func syncs(endpoint string) (n float64) {
	resp, err := http.Get(endpoint + "/metrics")
	if err != nil {
		return 0
	}
	defer func() { _ = resp.Body.Close() }()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if count, is := strings.CutPrefix(lines.Text(), "etcd_disk_wal_fsync_duration_seconds_count "); is {
			n, _ = strconv.ParseFloat(count, 64)
		}
	}
	return n
}
