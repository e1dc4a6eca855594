// Package liveness is crash detection: it lets candidates notice at once that the process of a
// leader has died, before the TTL of its lease is over.
//
//   - A [Listener] is a TCP address of this process. The kernel accepts connections there for as
//     long as the process lives. The sessions of one process may share it.
//   - A [Record] owns the liveness record of one session: the key under the session's lease that
//     tells candidates the address.
//   - A [Detector] probes the address of a leader on behalf of a candidate. If the leader's process
//     is dead, the detector marks the leader's record, and revokes the leader's lease.
//
// A record is only replaced at the revision at which it was read. Therefore either a successor replaces
// the record and takes the lease over, or a detector marks the record, and never both.
package liveness

import (
	"context"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// Config is what crash detection needs of a session.
type Config struct {
	Context context.Context // ends with the session
	KV      clientv3.KV
	Leases  clientv3.Lease
	Log     *zap.Logger
	// Spawn starts a goroutine of the session. It returns false if the session has ended.
	Spawn func(func()) bool
	// Insist tries a request until etcd answers, ctx ends or the client is closed. Each try has a
	// context of its own.
	Insist func(ctx context.Context, try func(context.Context) error) error
	// Changes reports the changes of a key from a revision on, until tell returns false, ctx ends or
	// etcd refuses.
	Changes func(ctx context.Context, key string, from int64, tell func(*clientv3.Event) (more bool))
	// Observe reports the leader of an election, at once and after each change, until tell returns
	// false or ctx ends.
	Observe func(ctx context.Context, name string, tell func(Leader) (more bool)) error
	// OwnLease is the session's present lease.
	OwnLease func() clientv3.LeaseID
	// Fail ends the session because of a bug.
	Fail func(bug error)
}

// New returns the record and the detector of a session. Without a listener the detector is nil, and
// the record publishes nothing.
func New(cfg Config, l *Listener) (*Record, *Detector) {
	if l == nil {
		return &Record{Config: cfg}, nil
	}
	return &Record{Config: cfg, own: l.own}, &Detector{Config: cfg, own: l.own, network: l.network, scope: l.scope}
}

// read returns the record under a lease, and its revision, which is 0 if there is none.
func (c *Config) read(ctx context.Context, lease clientv3.LeaseID) (record wire.Liveness, at int64, err error) {
	err = c.Insist(ctx, func(ctx context.Context) error {
		record, at = wire.Liveness{}, 0
		resp, err := c.KV.Get(ctx, wire.LivenessKey(lease))
		if err == nil && len(resp.Kvs) > 0 {
			record, at = wire.ParseLiveness(resp.Kvs[0].Value), resp.Kvs[0].ModRevision
		}
		return err
	})
	return record, at, err
}

// replace writes a record if the one of revision at still stands, or, if at is 0, none. It
// returns the revision of its write. That is 0 if another record stands, which may be this one,
// written by a try that was not answered.
func (c *Config) replace(ctx context.Context, lease clientv3.LeaseID, at int64, record wire.Liveness) (written int64, err error) {
	err = c.Insist(ctx, func(ctx context.Context) error {
		written, err = c.replaceOnce(ctx, lease, at, record)
		return err
	})
	return written, err
}

// replaceOnce is one try of replace.
func (c *Config) replaceOnce(ctx context.Context, lease clientv3.LeaseID, at int64, record wire.Liveness) (written int64, err error) {
	key := wire.LivenessKey(lease)
	resp, err := c.KV.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", at)).
		Then(clientv3.OpPut(key, record.Encode(), clientv3.WithLease(lease))).
		Commit()
	if err != nil || !resp.Succeeded {
		return 0, err
	}
	return resp.Header.Revision, nil
}
