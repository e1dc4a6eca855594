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

// Session is one lease that is kept alive. As in etcd's package, it ends with the lease. An
// [etcdlock.Session] continues with another lease.
type Session struct {
	client *v3.Client
	opts   *sessionOptions
	inner  *etcdlock.Session
	id     v3.LeaseID

	ctx    context.Context // cancelled at the end of the session, with the cause
	cancel context.CancelCauseFunc

	ending sync.Once
	inEtcd func()        // the last action of the session's goroutine; set in ending
	gone   chan struct{} // closed after inEtcd
	orphan bool          // true if the lease was left; set before gone is closed

	locks  shared[*etcdlock.Lock]
	terms  shared[*etcdlock.Term]
	warned sync.Once
}

// NewSession requests a lease, or takes over the one of [WithLease], and keeps it alive. It blocks until
// etcd has answered, or the context of [WithContext] ends. The default is the client's context. While
// etcd does not answer, NewSession tries again, whereas etcd's package may return an error.
//
// For a lease that etcd does not know, the error matches [rpctypes.ErrLeaseNotFound]. etcd's package
// then returns a session that soon ends.
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

// newInner creates the session of etcdlock. A TTL below the server's minimum is raised to it, as the
// server does for etcd's package. etcdlock would refuse such a TTL.
func newInner(client *v3.Client, so *sessionOptions) (*etcdlock.Session, error) {
	opts := append([]etcdlock.SessionOption{etcdlock.WithForeignNames()}, so.inner...)
	if so.leaseID != v3.NoLease {
		return etcdlock.NewSession(so.ctx, client, append(opts, etcdlock.WithLease(so.leaseID))...)
	}
	// The largest Duration. etcd refuses it anyway.
	ttl := time.Duration(min(int64(so.ttl), math.MaxInt64/int64(time.Second))) * time.Second
	s, err := etcdlock.NewSession(so.ctx, client, append(opts, etcdlock.WithTTL(ttl))...)
	if !errors.Is(err, etcdlock.ErrInvalidTTL) {
		return s, err
	}
	var resp *v3.LeaseGrantResponse
	_, err = insist(so.ctx, client, func(ctx context.Context) (err error) {
		resp, err = client.Grant(ctx, int64(so.ttl)) // after a lost answer the lease soon expires, because its TTL is the minimum
		return err
	})
	if err != nil {
		return nil, err
	}
	return etcdlock.NewSession(so.ctx, client, append(opts, etcdlock.WithLease(resp.ID))...)
}

// run waits for the end of the lease, of the client or of the session's context, or for Orphan or Close.
// It then ends the session in etcd.
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

// end ends the session in this process, with a cause. The first cause counts.
func (s *Session) end(cause error, inEtcd func()) {
	s.ending.Do(func() {
		s.inEtcd = inEtcd
		s.cancel(cause)
	})
}

// closeLater closes etcdlock's session, which may have a new lease, after the loss of the lease. It
// waits for the margin, which belongs to the holders of the lost lease.
func (s *Session) closeLater() {
	margin := time.NewTimer(min(s.inner.TTL()/10, time.Second))
	defer margin.Stop()
	select {
	case <-margin.C:
	case <-s.opts.ctx.Done():
	}
	ctx, cancel := context.WithTimeout(s.opts.ctx, s.inner.TTL())
	defer cancel()
	_ = s.inner.Close(ctx) // the lease has expired, or will expire
}

// leaveTimeout bounds Orphan when etcd does not answer.
const leaveTimeout = time.Second

// leave stops the renewals, and leaves the lease and the keys of all holds in etcd. It also leaves the
// keys of waits if they cannot be deleted in time.
func (s *Session) leave() {
	s.orphan = true
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	if _, err := s.inner.Orphan(ctx); err != nil {
		cancel()
		_ = compathook.CloseWithin(ctx, s.inner) // does not revoke the lease
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

// ownsHolds reports whether a new hold has the session's lease, and not a later lease of etcdlock's
// session. etcdlock's session never gets a lease twice. If it has the first lease now, it had no other
// lease at the acquisition. The name of the key proves nothing. A candidate that stepped behind a
// preferred one has another key under the same lease, and so has a lock while its first key is swept.
func (s *Session) ownsHolds() bool { return s.inner.Lease() == s.id }

// deleteKey confirms a release that has no answer yet.
func (s *Session) deleteKey(ctx context.Context, guard v3.Cmp, key string) error {
	_, err := insist(ctx, s.client, func(ctx context.Context) error {
		_, err := s.client.Txn(ctx).If(guard).Then(v3.OpDelete(key)).Commit()
		return err
	})
	return err
}

// Client returns the etcd client of the session.
func (s *Session) Client() *v3.Client { return s.client }

// Lease returns the lease ID of the session's keys.
func (s *Session) Lease() v3.LeaseID { return s.id }

// Ctx returns the context of the session, a child of the one of [WithContext]. It is cancelled when the
// session is closed or orphaned, or its lease is lost. Its [context.Cause] matches [ErrSessionExpired],
// and one of [etcdlock.ErrLost], [etcdlock.ErrOrphaned] and [etcdlock.ErrSessionClosed]. If the parent
// was cancelled, the cause is the parent's.
//
// Ctx is cancelled before another process can acquire the locks of the session, unless this process or
// its machine is stopped at that time. In etcd's package it can be cancelled seconds later. Ctx is not
// cancelled when an administrator deletes a key of the session. The contexts of [Mutex.Hold] and
// [Election.Term] are.
func (s *Session) Ctx() context.Context { return s.ctx }

// Done returns the channel of Ctx, which is closed when the session ends.
func (s *Session) Done() <-chan struct{} { return s.ctx.Done() }

// Orphan ends the session, but leaves the lease and the keys of its holds in etcd. Another session can
// take them over with [WithLease] before the lease expires. Orphan blocks until the keys of waits are
// deleted, for at most a second. After that it leaves them too.
//
// Locks and leaderships of this session end in this process, and the session cannot release them. In
// etcd's package an Unlock after Orphan still deletes the key.
func (s *Session) Orphan() {
	s.end(errOrphaned, s.leave)
	<-s.gone
}

// Close ends the session and revokes the lease, which releases all holds. It blocks until etcd has
// confirmed, for at most one TTL, or until the context of [WithContext] ends. After an error the lease
// expires by itself. Close returns nil if the lease no longer exists, whereas etcd's package returns an
// error.
func (s *Session) Close() error {
	ctx, cancel := context.WithTimeout(s.opts.ctx, s.inner.TTL())
	defer cancel()
	var err error
	first := false
	s.end(errClosed, func() {
		first, err = true, compathook.CloseWithin(ctx, s.inner)
	})
	<-s.gone
	switch {
	case first || errors.Is(context.Cause(s.ctx), errClosed):
	case s.orphan:
		if _, err = s.client.Revoke(ctx, s.id); errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return nil
		}
	default:
		err = context.Cause(s.opts.ctx) // with which nothing can be revoked; nil if the lease was lost
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

// SessionOption is an option of [NewSession].
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

// WithLease makes the session take over an existing lease and its keys, so that a restarted process
// continues after [Session.Orphan]. See [etcdlock.WithLease].
func WithLease(leaseID v3.LeaseID) SessionOption {
	return func(so *sessionOptions, _ *zap.Logger) { so.leaseID = leaseID }
}

// WithContext sets the parent of the session's context, instead of the client's context. When it ends,
// the session ends and its lease is left to expire. NewSession and Close then return.
func WithContext(ctx context.Context) SessionOption {
	return func(so *sessionOptions, _ *zap.Logger) { so.ctx = ctx }
}

// WithReentry makes Lock and TryLock succeed at once if the session already holds the name, through any
// Mutex, as in etcd's package. All of these Mutexes share one lock, and the first Unlock of any of them
// releases it. The option is for programs that need this behaviour, for example because they repeat a
// Lock that may have succeeded. Goroutines of such a session do not exclude each other. etcd's package
// has no WithReentry.
func WithReentry() SessionOption {
	return func(so *sessionOptions, _ *zap.Logger) { so.reentry = true }
}
