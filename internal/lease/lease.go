// Package lease keeps one etcd lease alive and computes until when its session may
// rely on it.
//
// Everything else follows from one equation:
//
//	validUntil = sentAt + grantedTTL - margin
//
// sentAt is when the last answered request (the grant, or a renewal) was sent.
// etcd counts the TTL from the arrival of the request, which is later. So the lease
// in etcd outlives validUntil, however long the request and the answer took.
// Counting from the receipt of the answer would be wrong: after an answer that took
// 4 s, a session would rely on a lease of 5 s for 4 s after another client got its
// keys (traps C3, C4).
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

	"github.com/etcdlock/etcdlock/internal/lazyctx"
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
	// Margin is the safety margin. 0 means defaultMargin.
	Margin time.Duration
	// Delay is the lock-delay: the lease ends here earlier by this time, while its keys stay in
	// etcd.
	Delay time.Duration
	// Clock is the time since any fixed point; it also advances while the machine
	// sleeps.
	Clock func() time.Duration
	// Jumps calls look after each jump of Clock, until remove is called. It is nil for a clock that
	// jumps unnoticed, when the machine sleeps. Then a timer looks at the clock once in a Slice.
	Jumps func(look func()) (remove func())
	// Answered is called with false when a renewal failed or is overdue, and with
	// true when one was answered again. It is not called after the lease's end.
	// It may be nil.
	Answered func(ok bool, err error)
	// Renewed is called for each renewal that was answered, failed or is overdue: how long that took so
	// far, and how long the lease was still valid, before this answer counted. It does not block. It
	// may be nil.
	Renewed func(rtt, left time.Duration, err error)
	// Asking is called before each renewal is sent, and before Verify asks. The function that it
	// returns is called before the answer is used, with the answer's header and whether etcd knows the
	// lease. If etcd does not, this call may block to end the lease for another reason. Asking may be
	// nil.
	Asking func() (answered func(h *pb.ResponseHeader, known bool))
	// Reconnect ends the pause before the client's next attempt to connect. It is
	// called when an answer is overdue. It may be nil.
	Reconnect func()
	// FromReceipt counts from the receipt of the answer. This is wrong, and serves one
	// test: the simulation must find the two holders that it causes.
	FromReceipt bool
}

// Lease is one granted lease.
type Lease struct {
	cfg     Config
	id      clientv3.LeaseID
	granted time.Duration // may exceed Config.TTL (trap C6)
	margin  time.Duration
	began   time.Time

	ctx    context.Context // ends with the lease, with the cause of its death
	cancel context.CancelCauseFunc

	mu         lockorder.Lease
	validUntil time.Duration // by cfg.Clock; only grows while the lease is alive
	deadline   *time.Timer   // fires at validUntil or earlier
	unrenewed  error         // the reason of StopRenewing; nil while the lease is renewed
}

// Grant asks etcd for a new lease. ctx bounds the request; the lease itself ends
// with parent.
//
// id is NoLease before the first try, and then the ID that was asked for. A later try asks for the
// same ID, so a lost or late answer leaves no second lease in etcd.
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

// granted returns the lease that etcd granted to an earlier try without an answer in time.
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

// errNotOurs counts as a missing answer, so that the caller asks for another lease.
var errNotOurs = status.Error(codes.Aborted, "the lease that was asked for has expired, or was granted to another client")

// Resume takes over an existing lease by renewing it. It fails with ErrLeaseNotFound
// if etcd does not know the lease (trap C7).
func Resume(ctx, parent context.Context, cfg Config, id clientv3.LeaseID) (*Lease, error) {
	ttl, sent, err := cfg.renewOnce(ctx, id, resumeWait)
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return nil, lockerr.ErrLeaseNotFound
	case err != nil:
		return nil, err
	}
	return begin(parent, cfg, id, sent, ttl), nil
}

// resumeWait is how long the renewal of Resume delays another renewal of the lease.
const resumeWait = time.Second

func (c *Config) countFrom(sent time.Duration) time.Duration {
	if c.FromReceipt {
		return c.Clock()
	}
	return sent
}

// begin starts the life of a lease that etcd granted or renewed by a request sent
// at sent.
func begin(parent context.Context, cfg Config, id clientv3.LeaseID, sent, ttl time.Duration) *Lease {
	l := &Lease{cfg: cfg, id: id, granted: ttl, margin: cfg.Margin, began: time.Now()}
	if l.margin == 0 {
		l.margin = defaultMargin(l.TTL())
	}
	l.margin += cfg.Delay
	ctx, cancel := context.WithCancelCause(parent)
	l.ctx, l.cancel = lazyctx.NewRoot(ctx), cancel
	l.mu.Lock()
	defer l.mu.Unlock()
	l.validUntil = l.validFrom(sent)
	l.deadline = time.AfterFunc(l.untilLook(), l.look)
	if cfg.Jumps != nil {
		context.AfterFunc(l.ctx, cfg.Jumps(l.jumped))
	}
	return l
}

// defaultMargin is a tenth of the TTL, at most a second. The clocks of computers
// differ by a few parts in 100,000, so nearly all of the margin is time for the
// holder's work to stop.
func defaultMargin(ttl time.Duration) time.Duration {
	return min(ttl/10, time.Second)
}

// validFrom is the equation.
func (l *Lease) validFrom(sent time.Duration) time.Duration {
	return sent + l.granted - l.margin
}

// ID is the lease's ID in etcd.
func (l *Lease) ID() clientv3.LeaseID { return l.id }

// TTL is the TTL without Config.Delay. All computations with the time of a hold use it.
func (l *Lease) TTL() time.Duration { return l.granted - l.cfg.Delay }

// Granted is the TTL that etcd granted, Config.Delay included: the time after which etcd deletes
// the lease when it is not renewed.
func (l *Lease) Granted() time.Duration { return l.granted }

// Margin is how long before its end in etcd the lease ends here.
func (l *Lease) Margin() time.Duration { return l.margin }

// Delay is the part of the margin that comes from Config.Delay.
func (l *Lease) Delay() time.Duration { return l.cfg.Delay }

// Context ends with the lease; its cause tells why.
func (l *Lease) Context() context.Context { return l.ctx }

// Err returns nil while the lease is valid, and then the cause of its end. It reads
// the clock itself, so it is right even if timers are late, as after the machine slept.
func (l *Lease) Err() error {
	l.mu.Lock()
	var expired error // allocated only at the end, because every call of a hold comes here
	if l.cfg.Clock() >= l.validUntil {
		expired = l.expiry()
	}
	l.mu.Unlock()
	if expired != nil {
		// No answer can have extended the lease since: extend refuses after validUntil.
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

// ValidUntil is the time, by the clock, at which the lease ends unless it is renewed
// before. It is in the past once the lease has ended.
func (l *Lease) ValidUntil() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.validUntil
}

// Remaining is the time until ValidUntil. It is not positive after the lease's end.
func (l *Lease) Remaining() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.validUntil - l.cfg.Clock()
}

// End ends the lease here. The first cause counts. In etcd the lease lives on until
// it expires or Revoke is called.
func (l *Lease) End(cause error) {
	l.cancel(cause) // before validUntil changes, so that no caller takes the end for an expiry
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deadline.Stop()
	l.validUntil = min(l.validUntil, l.cfg.Clock())
}

// StopRenewing stops the renewals for a reason. The first reason counts. The lease then ends at its
// deadline here, and a margin later in etcd. A renewal in flight may extend the lease in etcd, but
// not here.
func (l *Lease) StopRenewing(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unrenewed == nil {
		l.unrenewed = why
	}
}

// EndUnrenewed ends a lease after StopRenewing, before its deadline. It is called when no work is done
// under the lease any more.
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

// extend counts an answered renewal, up to the TTL in the answer. An answer after
// validUntil is too late: the holders under the lease have been notified of its end.
func (l *Lease) extend(sent, left time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cfg.Clock() < l.validUntil && l.unrenewed == nil {
		l.validUntil = max(l.validUntil, sent+min(l.granted, left)-l.margin)
	}
}

// look ends the lease after validUntil, and otherwise sets the timer again.
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

// untilLook is the time until validUntil, but at most Slice. Go's timers stand still
// while the machine sleeps, and the lease in etcd does not. Within one Slice after the
// machine wakes up, the end is noticed.
func (l *Lease) untilLook() time.Duration {
	left := max(l.validUntil-l.cfg.Clock(), 0)
	if l.cfg.Jumps != nil {
		return left
	}
	return min(left, l.Slice())
}

// jumped looks at the clock when a timer that is set once in a Slice would do so.
func (l *Lease) jumped() {
	l.mu.Lock()
	defer l.mu.Unlock()
	in := l.Slice() - time.Since(l.began)%l.Slice()
	if left := l.untilLook(); left > 0 {
		in = min(in, left)
	}
	if l.ctx.Err() == nil {
		l.deadline.Reset(in)
	}
}

// Slice is the longest time for which one timer is set: a quarter of the margin without the delay, at
// most half a second. Even if the machine slept until shortly before the deadline, most of the margin
// is left when the timer fires.
func (l *Lease) Slice() time.Duration {
	return min(max((l.margin-l.cfg.Delay)/4, time.Millisecond), 500*time.Millisecond)
}

// Revoke ends the lease in etcd and deletes all its keys, in one request. It returns
// nil if etcd does not know the lease.
func (l *Lease) Revoke(ctx context.Context) error {
	_, err := l.cfg.Client.Revoke(ctx, l.id)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return nil
	}
	return err
}
