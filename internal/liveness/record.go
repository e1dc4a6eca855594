package liveness

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Lease is what the record needs of a lease of the session.
type Lease interface {
	ID() clientv3.LeaseID
	Context() context.Context // ends with the lease
}

// Record is the liveness record of one session.
type Record struct {
	Config
	own   wire.Liveness // what is published; the zero value without a listener
	since atomic.Int64  // the revision of the last write that etcd confirmed; 0: none
}

// SetLease publishes the address under a lease that was granted.
func (r *Record) SetLease(l Lease) {
	if r.own.Address == "" {
		return
	}
	r.Spawn(func() {
		// Once: a try that takes effect late, when something else was written, is refused.
		written, err := r.replace(l.Context(), l.ID(), 0, r.own)
		if written != 0 {
			r.since.Store(written)
		}
		if err != nil && l.Context().Err() == nil {
			r.Log.Error("crash detection is off: cannot tell where to find this process", zap.Error(err))
		}
	})
}

// LeaseLost logs, if a lease was revoked because a candidate took this process for dead, that this
// is the reason.
func (r *Record) LeaseLost(id clientv3.LeaseID, cause error) {
	if since := r.since.Load(); since != 0 && errors.Is(cause, lockerr.ErrRevoked) {
		r.Spawn(func() { r.logIfMarked(id, since) })
	}
}

// searchTimeout bounds the search for a mark.
const searchTimeout = 5 * time.Second

// logIfMarked logs, after a lease was revoked, that a candidate did it which took this process for
// dead. The marked record has gone with the lease. It is looked for among the changes after a
// revision at which this process wrote the record.
func (r *Record) logIfMarked(id clientv3.LeaseID, written int64) {
	ctx, cancel := context.WithTimeout(r.Context, searchTimeout)
	defer cancel()
	r.Changes(ctx, wire.LivenessKey(id), written+1, func(ev *clientv3.Event) (more bool) {
		if ev.Type == clientv3.EventTypeDelete {
			return false // by an administrator
		}
		record := wire.ParseLiveness(ev.Kv.Value)
		if record.Dead {
			r.Log.Warn("a candidate took this process for dead, and had its lease revoked: "+
				"connections to the address of crash detection are refused on the way from there",
				hexLease(id), zap.String("address", record.Address), zap.String("by", record.By))
		}
		return !record.Dead
	})
}

// Withdraw replaces the record, before the lease is left to a successor, by one without an address.
// Nobody takes the silence of this process for a crash then. Restore takes Withdraw back.
func (r *Record) Withdraw(ctx context.Context) error {
	id := r.OwnLease()
	if r.own.Address == "" || id == clientv3.NoLease {
		return nil
	}
	return r.overwrite(ctx, id, wire.Liveness{})
}

// Restore takes Withdraw back.
func (r *Record) Restore() {
	id := r.OwnLease()
	if r.own.Address == "" || id == clientv3.NoLease {
		return
	}
	r.Spawn(func() {
		if err := r.overwrite(r.Context, id, r.own); err != nil && r.Context.Err() == nil {
			r.Log.Warn("crash detection is off for the present lease", zap.Error(err))
		}
	})
}

// Replace replaces the record of a former process by the one of this process, under a lease that
// this process takes over. It fails with ErrLeaseNotFound when a candidate has marked the lease:
// of the two that wanted the lease, etcd has heard the candidate first. Then Replace revokes the
// lease, as the candidate may have died since. Until the lease has run out, its keys would stand
// ahead of those of this process.
func (r *Record) Replace(ctx context.Context, id clientv3.LeaseID) error {
	err := r.overwrite(ctx, id, r.own)
	if errors.Is(err, errMarked) {
		_ = r.Insist(ctx, func(ctx context.Context) error {
			_, err := r.Leases.Revoke(ctx, id)
			return err
		})
	}
	return err
}

// errMarked is that of a lease that a candidate has marked, and that is to be revoked.
var errMarked = fmt.Errorf("%w: it was taken for that of a dead process", lockerr.ErrLeaseNotFound)

// overwrite makes a record stand under a lease, whatever stood there.
func (r *Record) overwrite(ctx context.Context, id clientv3.LeaseID, record wire.Liveness) error {
	listens := r.own.Address != ""
	for tried := false; ; tried = true {
		found, at, err := r.read(ctx, id)
		switch {
		case errors.Is(err, rpctypes.ErrPermissionDenied) && !listens:
			return nil // the former process could not write one either
		case err != nil:
			return err
		case found.Dead:
			return errMarked
		case at == 0 && !listens, at != 0 && found == record && (tried || record.Address == ""):
			// Nothing was published, nor will be; or this record was. It is written again where the former
			// process published the same, as in the same container: a candidate may be judging by that.
			return nil
		}
		written, err := r.replace(ctx, id, at, record)
		if written != 0 {
			r.since.Store(written)
		}
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return lockerr.ErrLeaseNotFound
		}
		if err != nil || written != 0 {
			return err
		}
	}
}
