// Package lease keeps one etcd lease alive and knows until when it can be relied
// on.
//
// The one equation, from which everything else follows:
//
//	validUntil = sentAt + grantedTTL - margin
//
// sentAt is when the last answered request (the grant, or a renewal) was SENT.
// etcd counts the TTL from when the request reached it, which is later, so that
// the lease in etcd outlives validUntil whatever the way there and back took.
// Counting from the answer would not do: an answer that was 4 s under way would
// make a lease of 5 s be believed in for 4 s after another client got its keys
// (traps C3, C4).
package lease

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/leaseid"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/lockorder"
)

// Config is what a lease needs to be kept.
type Config struct {
	// Client grants, renews and revokes.
	Client clientv3.Lease
	// Renewer, if it is not nil, renews in place of Client.
	Renewer Renewer
	// TTL is what Grant asks for, in whole seconds.
	TTL time.Duration
	// Margin is the safety margin; 0 means the default of margin().
	Margin time.Duration
	// Delay is the part of the TTL that is not counted on: the lease ends here by that much
	// earlier, and its keys stay in etcd meanwhile.
	Delay time.Duration
	// Clock is the time since any fixed point; it goes on while the machine
	// sleeps.
	Clock func() time.Duration
	// Answered is told whether etcd answers the renewals: false when one failed
	// or is overdue, true when one was answered again. Not called after the
	// lease's death. May be nil.
	Answered func(ok bool, err error)
	// Asking is called before each renewal is sent, and before Verify asks. What it returns is called
	// with the header of the answer before the answer is used, and whether etcd knows the lease. If
	// etcd does not, this call may take a moment to end the lease for a reason of its own. May be nil.
	Asking func() (answered func(h *pb.ResponseHeader, known bool))
	// Reconnect makes the connection try again now that may be waiting to; it is
	// called when an answer is owed. May be nil.
	Reconnect func()
	// FromReceipt counts from the answer instead of the request. It is wrong, and
	// there for one test: the simulation must be able to find the overlap of
	// holders that this leads to.
	FromReceipt bool
}

// Lease is one granted lease.
type Lease struct {
	cfg     Config
	id      clientv3.LeaseID
	granted time.Duration // may be more than Config.TTL asked for (trap C6)
	margin  time.Duration

	ctx    context.Context // ends with the lease, with the cause of its death
	cancel context.CancelCauseFunc

	mu         lockorder.Lease
	validUntil time.Duration // by cfg.Clock; only grows while the lease is alive
	deadline   *time.Timer   // fires at validUntil or earlier
	unrenewed  error         // why the lease is renewed no more; nil while it is renewed
}

// Grant asks etcd for a new lease. ctx bounds the request; the lease itself ends
// with parent.
//
// id is NoLease before the first try of a lease, and then the one that was asked for: a try whose
// answer was lost, or comes late, leaves no second lease in etcd.
func Grant(ctx, parent context.Context, cfg Config, id *clientv3.LeaseID) (*Lease, error) {
	sent := cfg.Clock()
	resp, err := cfg.Client.Grant(leaseid.Ask(ctx, id), int64(cfg.TTL/time.Second))
	switch {
	case errors.Is(err, rpctypes.ErrLeaseExist) && *id != clientv3.NoLease:
		return granted(ctx, parent, cfg, id)
	case err != nil:
		return nil, err
	}
	return begin(parent, cfg, resp.ID, cfg.countFrom(sent), time.Duration(resp.TTL)*time.Second), nil
}

// granted is the lease that an earlier try was granted, without an answer that came in time.
func granted(ctx, parent context.Context, cfg Config, id *clientv3.LeaseID) (*Lease, error) {
	sent := cfg.Clock()
	resp, err := cfg.Client.TimeToLive(ctx, *id)
	if err != nil {
		return nil, err
	}
	left, ttl := time.Duration(resp.TTL)*time.Second, time.Duration(resp.GrantedTTL)*time.Second
	if left <= 0 || ttl < cfg.TTL {
		*id = clientv3.NoLease
		return nil, errNotOurs
	}
	return begin(parent, cfg, *id, cfg.countFrom(sent)-(ttl-left), ttl), nil
}

// errNotOurs counts as no answer, so that another lease is asked for.
var errNotOurs = status.Error(codes.Aborted, "the lease that was asked for has expired, or was granted to another client")

// Resume takes over a lease that exists. It renews it, which tells at once
// whether etcd still knows it (trap C7); ErrLeaseNotFound if not.
func Resume(ctx, parent context.Context, cfg Config, id clientv3.LeaseID) (*Lease, error) {
	ttl, sent, err := cfg.renewOnce(ctx, id, patience)
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return nil, lockerr.ErrLeaseNotFound
	case err != nil:
		return nil, err
	}
	return begin(parent, cfg, id, sent, ttl), nil
}

// patience is for how long the renewal by which a lease is taken over holds up another one of it.
const patience = time.Second

func (c *Config) countFrom(sent time.Duration) time.Duration {
	if c.FromReceipt {
		return c.Clock()
	}
	return sent
}

// begin starts the life of a lease that etcd granted or renewed on the request
// sent then.
func begin(parent context.Context, cfg Config, id clientv3.LeaseID, sent, ttl time.Duration) *Lease {
	l := &Lease{cfg: cfg, id: id, granted: ttl, margin: cfg.Margin}
	if l.margin == 0 {
		l.margin = defaultMargin(l.TTL())
	}
	l.margin += cfg.Delay
	l.ctx, l.cancel = context.WithCancelCause(parent)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.validUntil = l.validFrom(sent)
	l.deadline = time.AfterFunc(l.untilLook(), l.look)
	return l
}

// defaultMargin is a tenth of the TTL, at most a second: clocks of computers
// differ by a few in 100,000, so nearly all of it is time for the holder's work
// to stop in.
func defaultMargin(ttl time.Duration) time.Duration {
	return min(ttl/10, time.Second)
}

// validFrom is the equation.
func (l *Lease) validFrom(sent time.Duration) time.Duration {
	return sent + l.granted - l.margin
}

// ID is the lease's ID in etcd.
func (l *Lease) ID() clientv3.LeaseID { return l.id }

// TTL is the TTL without Config.Delay. Everything that reasons with the time of a hold uses it.
func (l *Lease) TTL() time.Duration { return l.granted - l.cfg.Delay }

// Granted is the TTL that etcd granted, Config.Delay included: the time after which etcd deletes
// the lease when it is not renewed.
func (l *Lease) Granted() time.Duration { return l.granted }

// Margin is how long before its end in etcd the lease ends here.
func (l *Lease) Margin() time.Duration { return l.margin }

// Delay is the part of the margin that Config.Delay is.
func (l *Lease) Delay() time.Duration { return l.cfg.Delay }

// Context ends with the lease; its cause tells why.
func (l *Lease) Context() context.Context { return l.ctx }

// Err is nil while the lease can be relied on. It looks at the clock itself, so
// that it is right also when timers are late, as after the machine slept.
func (l *Lease) Err() error {
	l.mu.Lock()
	var expired error // made only then, as every call of a hold comes here
	if l.cfg.Clock() >= l.validUntil {
		expired = l.expiry()
	}
	l.mu.Unlock()
	if expired != nil {
		// Nothing can have extended it since: extend refuses once it is over.
		l.End(expired)
	}
	if l.ctx.Err() != nil {
		return context.Cause(l.ctx)
	}
	return nil
}

// expiry is the cause of the end by the deadline. Called with l.mu held.
func (l *Lease) expiry() error {
	if l.unrenewed != nil {
		return lockerr.Lost(&givenUpError{l.unrenewed})
	}
	return lockerr.Lost(lockerr.ErrExpired)
}

// ValidUntil is the instant, by the clock, at which the lease ends unless it is
// renewed before; in the past once it has ended.
func (l *Lease) ValidUntil() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.validUntil
}

// Remaining is how long the lease can be relied on without asking anyone. After its
// end it is not positive, and tells how long ago that was.
func (l *Lease) Remaining() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.validUntil - l.cfg.Clock()
}

// End ends the lease here, for a cause; the first one counts. In etcd it lives
// on until it expires or Revoke is called.
func (l *Lease) End(cause error) {
	l.cancel(cause) // first, lest somebody take the end for the deadline
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deadline.Stop()
	l.validUntil = min(l.validUntil, l.cfg.Clock())
}

// StopRenewing stops the renewals for a reason, the first of which counts. The lease ends at its
// deadline here, and a margin later in etcd, by itself. A renewal that is under way extends the lease
// in etcd perhaps, but not here.
func (l *Lease) StopRenewing(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unrenewed == nil {
		l.unrenewed = why
	}
}

// EndUnrenewed ends a lease that is renewed no more before its deadline, when no work is done under
// it any more.
func (l *Lease) EndUnrenewed() {
	l.mu.Lock()
	cause := l.expiry()
	l.mu.Unlock()
	l.End(cause)
}

func (l *Lease) isUnrenewed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unrenewed != nil
}

// extend counts an answered renewal, but for no longer than the answer says is left.
// One that comes when the lease is over is too late, whatever it says: those who held
// under it were told.
func (l *Lease) extend(sent, left time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cfg.Clock() < l.validUntil && l.unrenewed == nil {
		l.validUntil = max(l.validUntil, sent+min(l.granted, left)-l.margin)
	}
}

// look ends the lease when its time is over, and looks again later otherwise.
func (l *Lease) look() {
	if l.Err() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() == nil {
		l.deadline.Reset(l.untilLook())
	}
}

// untilLook is the time until validUntil, cut into slices: Go's timers stand
// still while the machine sleeps, the lease in etcd does not. With the slices a
// machine that wakes up is told within one of them, and not after all the rest.
func (l *Lease) untilLook() time.Duration {
	return min(max(l.validUntil-l.cfg.Clock(), 0), l.Slice())
}

// Slice is the longest time for which a timer may be relied on: a quarter of the margin
// without the delay, at most half a second. Even if the machine has slept until shortly before
// the deadline, most of the margin is left then.
func (l *Lease) Slice() time.Duration {
	return min(max((l.margin-l.cfg.Delay)/4, time.Millisecond), 500*time.Millisecond)
}

// Revoke ends the lease in etcd, and all keys under it with it, in one request.
// A lease that etcd does not know is no error: it is what was wanted.
func (l *Lease) Revoke(ctx context.Context) error {
	_, err := l.cfg.Client.Revoke(ctx, l.id)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return nil
	}
	return err
}
