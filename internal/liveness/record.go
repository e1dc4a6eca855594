package liveness

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/states"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Lease is what the record needs of a lease of the session.
type Lease interface {
	ID() clientv3.LeaseID
	Context() context.Context // ends with the lease
}

// Record is the liveness record of one session.
//
// While the session is being left to a successor, the record must not have an address: candidates
// would take the silence of this process for a crash. A write that etcd applies late must not bring
// the address back either. Therefore a publication is cancelled before the record is withdrawn, and
// each withdrawal writes the record. A write of the publication that is still in flight is guarded by
// an earlier revision of the record, so etcd refuses it.
type Record struct {
	Config
	own wire.Liveness // what is published; the zero value without a listener

	mu          sync.Mutex // not held across a request
	phase       phase
	lease       Lease        // the present one; nil if phase is absent
	publication *publication // the one under way; nil if phase is not publishing
	withdrawals int          // calls of Withdraw that run or have succeeded, less the calls of Restore
	since       int64        // the revision of the last write that etcd confirmed; 0: none
}

// phase is what is known of the record under the present lease.
type phase int

const (
	absent      phase = iota // there is no lease, or no listener
	publishing               // the address is being written
	published                // etcd confirmed the address
	refused                  // etcd refused the address; a try that was not answered may have written it
	withdrawing              // the address is being overwritten
	withdrawn                // the record has no address, and no late write can change it
)

func (p phase) String() string {
	return [...]string{"absent", "publishing", "published", "refused", "withdrawing", "withdrawn"}[p]
}

// phases are the legal edges between the phases of the record. It is absent at first:
//
//	from                            to           when
//	absent                          publishing   a lease is granted
//	absent                          published    a lease is taken over with its record
//	absent                          withdrawn    a lease is granted during a withdrawal
//	publishing                      published    etcd confirmed the address
//	publishing                      refused      etcd refused the address
//	publishing, published, refused  withdrawing  the session is to be left to a successor
//	withdrawing                     withdrawn    etcd confirmed the record without an address
//	withdrawing, withdrawn          publishing   the session is not left after all
//	any but absent                  absent       the lease has ended
var phases = states.Table[phase]{Of: "liveness record", Edges: map[phase][]phase{
	absent:      {publishing, published, withdrawn},
	publishing:  {published, refused, withdrawing, absent},
	published:   {withdrawing, absent},
	refused:     {withdrawing, absent},
	withdrawing: {withdrawn, publishing, absent},
	withdrawn:   {publishing, absent},
}}

// become changes the phase. It is the one place where the phase changes. Called with mu held.
func (r *Record) become(to phase) {
	if err := phases.Check(r.phase, to); err != nil {
		r.Fail(err)
		return
	}
	r.phase = to
}

// SetLease sets the present lease, and publishes the address under it. It does nothing if Replace has
// taken over the record of the lease.
func (r *Record) SetLease(l Lease) {
	r.mu.Lock()
	var p *publication
	switch {
	case r.own.Address == "" || r.lease != nil && r.lease.ID() == l.ID():
	case r.withdrawals > 0:
		r.lease = l
		r.become(withdrawn)
	default:
		r.lease = l
		p = r.newPublication(true)
	}
	r.mu.Unlock()
	r.publish(p)
}

// LeaseLost tells the record that a lease has ended. If etcd revoked the lease because a candidate
// took this process for dead, LeaseLost logs that.
func (r *Record) LeaseLost(id clientv3.LeaseID, cause error) {
	r.mu.Lock()
	since := r.since
	if r.lease != nil && r.lease.ID() == id {
		r.endPublication()
		r.lease = nil
		r.become(absent)
	}
	r.mu.Unlock()
	if since != 0 && errors.Is(cause, lockerr.ErrRevoked) {
		r.Spawn(func() { r.logIfMarked(id, since) })
	}
}

// Withdraw replaces the record by one without an address, before the session is left to a
// successor. It blocks until etcd has confirmed that or ctx ends. After success no address is
// published, under no lease, until Restore is called. After an error the address is published as
// before. The error is ErrLeaseNotFound if the lease is gone.
func (r *Record) Withdraw(ctx context.Context) error {
	r.mu.Lock()
	r.withdrawals++
	if r.phase == absent || r.phase == withdrawn || r.lease.Context().Err() != nil {
		r.mu.Unlock()
		return nil
	}
	if r.phase != withdrawing { // by another call
		r.endPublication()
		r.become(withdrawing)
	}
	id := r.lease.ID()
	r.mu.Unlock()

	written, err := r.overwrite(ctx, id, wire.Liveness{}, true)
	if err != nil {
		r.Restore()
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.since = written
	if r.phase == withdrawing && r.lease.ID() == id {
		r.become(withdrawn)
	}
	return nil
}

// Restore takes one successful Withdraw back. With the last one it publishes the address again.
func (r *Record) Restore() {
	r.mu.Lock()
	var p *publication
	r.withdrawals--
	if r.withdrawals == 0 && (r.phase == withdrawing || r.phase == withdrawn) {
		p = r.newPublication(false)
	}
	r.mu.Unlock()
	r.publish(p)
}

// publication is one attempt to write the address under a lease.
type publication struct {
	lease  clientv3.LeaseID
	fresh  bool // nothing was written under the lease before
	ctx    context.Context
	cancel context.CancelFunc
}

// newPublication is for publish, which is called when mu is released. Called with mu held.
func (r *Record) newPublication(fresh bool) *publication {
	r.become(publishing)
	ctx, cancel := context.WithCancel(r.lease.Context())
	r.publication = &publication{r.lease.ID(), fresh, ctx, cancel}
	return r.publication
}

// endPublication stops the publication in flight from sending. Called with mu held.
func (r *Record) endPublication() {
	if r.publication != nil {
		r.publication.cancel()
		r.publication = nil
	}
}

// publish writes the address in a goroutine of the session.
func (r *Record) publish(p *publication) {
	if p == nil || r.Spawn(func() { r.runPublication(p) }) {
		return
	}
	p.cancel() // the session has ended
}

func (r *Record) runPublication(p *publication) {
	defer p.cancel()
	var written int64
	var err error
	if p.fresh {
		written, err = r.replace(p.ctx, p.lease, 0, r.own)
	}
	if err == nil && written == 0 { // an earlier try without an answer may have written it
		written, err = r.overwrite(p.ctx, p.lease, r.own, !p.fresh)
	}
	r.mu.Lock()
	current := r.publication == p
	if current {
		r.publication = nil
		if err == nil {
			r.since = written
			r.become(published)
		} else {
			r.become(refused)
		}
	}
	r.mu.Unlock()
	if err != nil && current && p.ctx.Err() == nil {
		r.Log.Error("crash detection is off: cannot publish the address of this process", zap.Error(err))
	}
}

// Replace replaces the record of a former process by that of this process, under a lease that this
// process takes over. It blocks until etcd has confirmed the record or ctx ends. It fails with
// ErrLeaseNotFound when a candidate has marked the record before. Then Replace also revokes the lease,
// because the candidate may have died since, and the keys of the lease would precede those of this
// process until the lease expires.
func (r *Record) Replace(ctx context.Context, l Lease) error {
	listens := r.own.Address != ""
	// An equal record of the former process, as of the same container, is replaced too, because a
	// candidate may be about to mark it. A process without a listener writes only over an existing
	// record.
	written, err := r.overwrite(ctx, l.ID(), r.own, listens)
	switch {
	case errors.Is(err, errMarked):
		_ = r.Insist(ctx, func(ctx context.Context) error {
			_, err := r.Leases.Revoke(ctx, l.ID())
			return err
		})
		return err
	case err != nil || !listens:
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lease, r.since = l, written
	r.become(published)
	return nil
}

// errMarked is the error for a lease after a candidate has marked its record.
var errMarked = fmt.Errorf("%w: a candidate has marked its process as dead", lockerr.ErrLeaseNotFound)

// overwrite writes a record under a lease, over any other record, and returns the revision of the
// record. Unless write is true, it writes nothing if etcd has an equal record.
func (r *Record) overwrite(ctx context.Context, id clientv3.LeaseID, record wire.Liveness, write bool) (written int64, err error) {
	for tried := false; ; tried = true {
		found, at, err := r.read(ctx, id)
		switch {
		case errors.Is(err, rpctypes.ErrPermissionDenied) && !write:
			return 0, nil // the former process could not write one either
		case err != nil:
			return 0, err
		case found.Dead:
			return 0, errMarked
		case found == record && (!write || tried && at != 0):
			return at, nil
		}
		written, err := r.replace(ctx, id, at, record)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return 0, lockerr.ErrLeaseNotFound
		}
		if err != nil || written != 0 {
			return written, err
		}
	}
}

// searchTimeout bounds the search for a mark.
const searchTimeout = 5 * time.Second

// logIfMarked logs, after the revocation of a lease, if a candidate revoked it because it took this
// process for dead. The marked record is gone with the lease, so logIfMarked searches the changes
// after the revision at which this process wrote the record.
func (r *Record) logIfMarked(id clientv3.LeaseID, written int64) {
	ctx, cancel := context.WithTimeout(r.Context, searchTimeout)
	defer cancel()
	r.Changes(ctx, wire.LivenessKey(id), written+1, func(ev *clientv3.Event) (more bool) {
		if ev.Type == clientv3.EventTypeDelete {
			return false // by an administrator
		}
		record := wire.ParseLiveness(ev.Kv.Value)
		if record.Dead {
			r.Log.Warn("a candidate took this process for dead and revoked its lease: "+
				"a host or firewall between the two refuses connections to the address of crash detection",
				zap.String("lease", wire.Hex(id)), zap.String("address", record.Address), zap.String("by", record.By))
		}
		return !record.Dead
	})
}
