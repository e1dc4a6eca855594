package lease

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/backoff"
	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// renewal is one answered, failed or abandoned renewal.
type renewal struct {
	began time.Duration // when it was to be sent
	sent  time.Duration // when it was, if it was answered
	ttl   time.Duration // as answered
	err   error
}

// Keep renews the lease until it ends, and returns the cause. It is called once,
// in a goroutine of the caller's.
//
// A renewal is sent a third of the TTL after the last answered one was sent. While
// a renewal is unanswered, further ones are sent at shorter intervals, because its
// connection may be dead while another would do. Each renewal counts from its own
// time of sending. So a slow etcd is not taken for a dead one, nor a dead connection
// for a slow etcd. While etcd is away, at most as many renewals are in flight as fit
// into one TTL.
func (l *Lease) Keep() error {
	var (
		every    = l.TTL() / 3
		again    = l.again()
		answers  = make(chan renewal)
		failures int
		owed     time.Duration // since when an answer is owed, by the clock
		owing    bool
		latest   time.Duration // when the latest answered renewal was sent, by the clock
		senders  sync.WaitGroup
	)
	defer senders.Wait() // they end with l.ctx

	next := time.NewTimer(l.nextRenewal(every))
	defer next.Stop()
	for {
		select {
		case <-l.ctx.Done():
			l.cancel(nil) // returns when all contexts under the lease have ended: what follows is not as urgent
			return context.Cause(l.ctx)

		case <-next.C:
			if l.isUnrenewed() {
				continue // until the deadline
			}
			now := l.cfg.Clock()
			switch {
			case !owing:
				owing, owed = true, now
			case now-owed >= again:
				l.renewed(renewal{began: owed, err: errOverdue})
				l.answered(false, errOverdue)
				if l.cfg.Reconnect != nil {
					l.cfg.Reconnect()
				}
			}
			senders.Go(func() {
				r := l.renew()
				select {
				case answers <- r:
				case <-l.ctx.Done():
				}
			})
			next.Reset(again)

		case r := <-answers:
			l.renewed(r)
			switch {
			case r.err == nil:
				failures, owing, latest = 0, false, max(latest, r.sent)
				l.extend(r.sent, r.ttl)
				l.answered(true, nil)
				next.Reset(l.nextRenewal(every))
			case errors.Is(r.err, rpctypes.ErrLeaseNotFound):
				l.endUnknown()
			case r.began < latest: // a later renewal was answered before
			default:
				l.answered(false, r.err)
				next.Reset(backoff.Delay(failures, 50*time.Millisecond, again, int64(l.id)))
				failures++
			}
		}
	}
}

// again is the time between renewals while an answer is overdue.
func (l *Lease) again() time.Duration { return l.TTL() / 6 }

// errOverdue is the error that Answered gets for a renewal that hangs.
var errOverdue error = overdue{}

type overdue struct{}

func (overdue) Error() string        { return "a renewal is overdue" }
func (overdue) Is(target error) bool { return target == context.DeadlineExceeded }

// nextRenewal is the time until a third of the TTL has passed since the last
// answered request was sent. It is never zero: after an answer that extends the
// lease little, such as an old one, the renewals must not form a busy loop.
func (l *Lease) nextRenewal(every time.Duration) time.Duration {
	sent := l.ValidUntil() - l.granted + l.margin
	return max(sent+every-l.cfg.Clock(), every/16)
}

// renew sends one renewal and waits for its answer for as long as the answer can
// extend the lease.
func (l *Lease) renew() renewal {
	ctx, cancel := context.WithTimeout(l.ctx, l.granted-l.margin)
	defer cancel()
	began := l.cfg.Clock()
	ttl, sent, err := l.cfg.renewOnce(ctx, l.id, l.again())
	return renewal{began: began, sent: sent, ttl: ttl, err: err}
}

// Verify asks etcd whether it still knows the lease, when a key under the lease is found to be gone.
// If etcd does not, the lease ends, for that cause. Verify blocks until the answer or the end of ctx.
// It returns an error if there was no answer.
//
// Verify does not send a renewal. After the revocation of a lease was committed, and reported by
// another member, the leader of etcd 3.7 still renews the lease until it has applied the revocation
// itself. An answer about the TTL waits until the leader has applied what is committed.
func (l *Lease) Verify(ctx context.Context) error {
	answered := l.cfg.asking()
	resp, err := l.cfg.Client.TimeToLive(ctx, l.id)
	if err != nil {
		return err
	}
	known := resp.TTL >= 0
	answered(resp.ResponseHeader, known)
	if !known {
		l.endUnknown()
	}
	return nil
}

// endUnknown ends a lease that etcd does not know any more. Before the deadline here,
// which is before etcd's, the lease did not expire, so it was revoked.
func (l *Lease) endUnknown() {
	if l.Err() == nil {
		l.End(lockerr.Lost(lockerr.ErrRevoked))
	}
}

// renewed reports a renewal before it counts.
func (l *Lease) renewed(r renewal) {
	if l.cfg.Renewed == nil {
		return
	}
	since := r.began
	if r.err == nil {
		since = r.sent
	}
	l.cfg.Renewed(l.cfg.Clock()-since, l.Remaining(), r.err)
}

func (l *Lease) answered(ok bool, err error) {
	if l.cfg.Answered != nil && l.ctx.Err() == nil {
		l.cfg.Answered(ok, err)
	}
}
