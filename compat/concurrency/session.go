package concurrency

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	v3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/compathook"
)

const defaultSessionTTL = 60

// Session is one lease that is kept alive, as in etcd's package: it ends with the lease.
// (An [etcdlock.Session] goes on with another one.)
type Session struct {
	client *v3.Client
	opts   *sessionOptions
	inner  *etcdlock.Session
	id     v3.LeaseID

	ctx    context.Context // ends with the session, with the cause
	cancel context.CancelCauseFunc

	ending sync.Once
	inEtcd func()        // what the session's goroutine does at last; set in ending
	gone   chan struct{} // closed when that has been done
	orphan bool          // the lease was left behind; set before gone is closed

	locks  shared[*etcdlock.Lock]
	terms  shared[*etcdlock.Term]
	warned sync.Once
}

// NewSession grants a lease, or takes over the one of [WithLease], and keeps it alive.
// It blocks until etcd has answered, or the context of [WithContext] ends, which is the
// client's unless told otherwise; while etcd is away it goes on trying, where etcd's
// package may fail instead.
//
// A lease that etcd does not know is an error ([rpctypes.ErrLeaseNotFound]); etcd's
// package returns a session then that is over after a moment.
func NewSession(client *v3.Client, opts ...SessionOption) (*Session, error) {
	if client == nil {
		return nil, etcdlock.ErrNilClient
	}
	lg := client.GetLogger()
	so := &sessionOptions{ttl: defaultSessionTTL, ctx: client.Ctx()}
	for _, opt := range opts {
		opt(so, lg)
	}
	inner, err := newInner(client, so)
	switch {
	case err == nil:
	case so.ctx.Err() != nil:
		return nil, so.ctx.Err()
	case errors.Is(err, etcdlock.ErrLeaseNotFound):
		return nil, fmt.Errorf("%w: %w", err, rpctypes.ErrLeaseNotFound)
	default:
		return nil, err
	}
	s := &Session{client: client, opts: so, inner: inner, id: inner.Lease(), gone: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancelCause(so.ctx)
	go s.run()
	return s, nil
}

// newInner makes the session that does the work. A TTL below the server's minimum is
// raised to that, as etcd's package has it raised by the server; etcdlock would refuse it.
func newInner(client *v3.Client, so *sessionOptions) (*etcdlock.Session, error) {
	opts := append([]etcdlock.SessionOption{etcdlock.WithForeignNames()}, so.inner...)
	if so.leaseID != v3.NoLease {
		return etcdlock.NewSession(so.ctx, client, append(opts, etcdlock.WithLease(so.leaseID))...)
	}
	// No longer than a Duration can be; etcd refuses it long before.
	ttl := time.Duration(min(int64(so.ttl), math.MaxInt64/int64(time.Second))) * time.Second
	s, err := etcdlock.NewSession(so.ctx, client, append(opts, etcdlock.WithTTL(ttl))...)
	if !errors.Is(err, etcdlock.ErrInvalidTTL) {
		return s, err
	}
	var resp *v3.LeaseGrantResponse
	_, err = insist(so.ctx, client, func(ctx context.Context) (err error) {
		resp, err = client.Grant(ctx, int64(so.ttl)) // after a lost answer the lease soon expires: its TTL is the least
		return err
	})
	if err != nil {
		return nil, err
	}
	return etcdlock.NewSession(so.ctx, client, append(opts, etcdlock.WithLease(resp.ID))...)
}

// run waits for the end of the lease, of the client, of the session's context, or for
// Orphan or Close; and then does in etcd what is to be done about it.
func (s *Session) run() {
	defer close(s.gone)
	for state := range s.inner.States(s.ctx) {
		switch {
		case state == etcdlock.StateClosed: // with the client
			s.end(fmt.Errorf("%w: %w", ErrSessionExpired, s.inner.Err()), func() {})
		case s.inner.Lease() != s.id:
			s.end(errLost, s.closeLater)
		}
	}
	s.end(context.Cause(s.ctx), s.leave)
	s.inEtcd()
}

// end ends the session for its users, for a cause. The first one counts.
func (s *Session) end(cause error, inEtcd func()) {
	s.ending.Do(func() {
		s.inEtcd = inEtcd
		s.cancel(cause)
	})
}

// closeLater closes etcdlock's session after the loss of the lease. It first waits for the margin, in
// which the work under the lease stops.
func (s *Session) closeLater() {
	margin := time.NewTimer(min(s.inner.TTL()/10, time.Second))
	defer margin.Stop()
	select {
	case <-margin.C:
	case <-s.opts.ctx.Done():
	}
	ctx, cancel := context.WithTimeout(s.opts.ctx, s.inner.TTL())
	defer cancel()
	_ = s.inner.Close(ctx) // the lease has expired, or will
}

// leaveTimeout bounds Orphan when etcd does not answer.
const leaveTimeout = time.Second

// leave stops renewing, and leaves the lease and the keys of all that is held in etcd;
// those of waits as well, if they cannot be cleared away in time.
func (s *Session) leave() {
	s.orphan = true
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	if _, err := s.inner.Orphan(ctx); err != nil {
		cancel()
		_ = compathook.CloseWithin(ctx, s.inner) // too late to revoke anything
	}
}

// within returns a context that ends with ctx or with the session.
func (s *Session) within(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// ownsHolds reports whether a new hold is under the session's lease, and not under another one
// that etcdlock's session got after the loss of that lease. etcdlock's session never gets a
// lease a second time, so if it has the first one now, it had no other when it acquired. The
// key may have another name under the same lease: a candidate that stepped behind a preferred
// one has one, and so does a lock while its first key is being swept.
func (s *Session) ownsHolds() bool { return s.inner.Lease() == s.id }

// deleteKey confirms a release that had no answer.
func (s *Session) deleteKey(ctx context.Context, guard v3.Cmp, key string) error {
	_, err := insist(ctx, s.client, func(ctx context.Context) error {
		_, err := s.client.Txn(ctx).If(guard).Then(v3.OpDelete(key)).Commit()
		return err
	})
	return err
}

// Client is the etcd client that is attached to the session.
func (s *Session) Client() *v3.Client { return s.client }

// Lease is the lease ID for keys bound to the session.
func (s *Session) Lease() v3.LeaseID { return s.id }

// Ctx is the context attached to the session: a child of the one of [WithContext] that is
// cancelled when the session is closed or orphaned, or its lease lost. [context.Cause]
// tells which: it matches [ErrSessionExpired], and [etcdlock.ErrLost],
// [etcdlock.ErrOrphaned] or [etcdlock.ErrSessionClosed], unless it is that of the parent.
//
// It is cancelled before anybody else can have what was held, unless this process or its
// machine stands still at that time. In etcd's package that comes up to seconds after
// somebody else has got it. It is not told here when a key of the session is deleted by
// an administrator while the lease lives on; [Mutex.Hold] and [Election.Term] tell that.
func (s *Session) Ctx() context.Context { return s.ctx }

// Done returns a channel that closes when the session ends: that of Ctx.
func (s *Session) Done() <-chan struct{} { return s.ctx.Done() }

// Orphan ends the session, but leaves the lease and the keys of all that is held in etcd,
// for another session that takes them over with [WithLease] before the lease runs out.
// It blocks until the keys of what was only waited for are gone, but no longer than a
// second: they are left as well then.
//
// Locks and leaderships of this session are over here, and cannot be released by it any
// more; in etcd's package an Unlock after Orphan still deletes the key.
func (s *Session) Orphan() {
	s.end(errOrphaned, s.leave)
	<-s.gone
}

// Close ends the session and revokes the lease, which releases everything it holds. It
// blocks until etcd has confirmed that, but no longer than one TTL or the context of
// [WithContext]; on an error the lease is left to expire. Nil if the lease is gone
// already, where etcd's package returns an error.
func (s *Session) Close() error {
	ctx, cancel := context.WithTimeout(s.opts.ctx, s.inner.TTL())
	defer cancel()
	var err error
	first := false
	s.end(errClosed, func() {
		first, err = true, compathook.CloseWithin(ctx, s.inner)
	})
	<-s.gone
	if !first && s.orphan {
		if _, err = s.client.Revoke(ctx, s.id); errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return nil
		}
	}
	return err
}

type sessionOptions struct {
	ttl     int
	leaseID v3.LeaseID
	ctx     context.Context
	reentry bool

	inner []etcdlock.SessionOption // for tests
}

// SessionOption configures Session.
type SessionOption func(*sessionOptions, *zap.Logger)

// WithTTL configures the session's TTL in seconds. If TTL is <= 0, the default of 60
// seconds is used.
func WithTTL(ttl int) SessionOption {
	return func(so *sessionOptions, lg *zap.Logger) {
		if ttl > 0 {
			so.ttl = ttl
		} else {
			lg.Warn("WithTTL(): TTL should be > 0, preserving current TTL", zap.Int("current-session-ttl", so.ttl))
		}
	}
}

// WithLease makes the session take over a lease that exists, with the keys under it: a
// process that restarts goes on where [Session.Orphan] left off. See [etcdlock.WithLease].
func WithLease(leaseID v3.LeaseID) SessionOption {
	return func(so *sessionOptions, _ *zap.Logger) { so.leaseID = leaseID }
}

// WithContext gives the session a context to live under in place of the client's. When it
// ends, so does the session, and its lease is left to expire; NewSession and Close return
// then.
func WithContext(ctx context.Context) SessionOption {
	return func(so *sessionOptions, _ *zap.Logger) { so.ctx = ctx }
}

// WithReentry makes Lock and TryLock succeed at once when the session holds the name
// already, through whatever Mutex, as they do in etcd's package; all of these share one
// lock, and the first Unlock of any releases it. It is for programs that count on that,
// as those that repeat a Lock which may have succeeded. Goroutines of such a session do
// not exclude each other. It is not in etcd's package.
func WithReentry() SessionOption {
	return func(so *sessionOptions, _ *zap.Logger) { so.reentry = true }
}
