package lease

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Renewer sends renewals.
type Renewer interface {
	// Renew sends one renewal. It returns etcd's answer, with a TTL of 0 for a lease that etcd does
	// not know, and when the answered renewal was sent, by clock. If renewals of a lease share a
	// stream, the next one waits at most longestWait for the answer to this one.
	Renew(ctx context.Context, id clientv3.LeaseID, clock func() time.Duration, longestWait time.Duration) (resp *pb.LeaseKeepAliveResponse, sent time.Duration, err error)
}

// renewOnce sends one renewal. It returns an error if etcd does not know the lease.
func (c *Config) renewOnce(ctx context.Context, id clientv3.LeaseID, longestWait time.Duration) (ttl, sent time.Duration, err error) {
	r := c.Renewer
	if r == nil {
		r = once{c.Client}
	}
	answered := c.asking()
	resp, sent, err := r.Renew(ctx, id, c.Clock, longestWait)
	if err != nil {
		return 0, 0, err
	}
	answered(resp.Header, resp.TTL > 0)
	if resp.TTL <= 0 {
		err = rpctypes.ErrLeaseNotFound
	}
	return time.Duration(resp.TTL) * time.Second, c.countFrom(sent), err
}

func (c *Config) asking() (answered func(h *pb.ResponseHeader, known bool)) {
	if c.Asking == nil {
		return func(*pb.ResponseHeader, bool) {}
	}
	return c.Asking()
}

// once renews through clientv3, which opens a stream for each renewal, and retries
// without a pause while a member refuses it.
type once struct{ client clientv3.Lease }

func (o once) Renew(ctx context.Context, id clientv3.LeaseID, clock func() time.Duration, _ time.Duration) (*pb.LeaseKeepAliveResponse, time.Duration, error) {
	sent := clock()
	resp, err := o.client.KeepAliveOnce(ctx, id)
	if err != nil {
		return nil, 0, err
	}
	return &pb.LeaseKeepAliveResponse{Header: resp.ResponseHeader, ID: int64(resp.ID), TTL: resp.TTL}, sent, nil
}
