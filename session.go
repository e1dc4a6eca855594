package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/compathook"
	"github.com/etcdlock/etcdlock/internal/lockmgr"
	"github.com/etcdlock/etcdlock/internal/session"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Session keeps a lease in etcd alive, under which it has all keys of its locks and elections. One
// session serves any number of them, and any number of goroutines. A process rarely needs a second
// one.
//
// A session outlives its lease. When the lease is lost, all holds under it are lost and are
// notified. The session then obtains a new lease, and new acquisitions continue. The session ends
// with Close, Orphan, or the client.
type Session struct {
	cfg     sessionConfig
	engine  *session.Session // nil if NewSession has not made this session
	etcd    *session.Etcd    // of the engine
	manager *lockmgr.Manager
	refused refusals // counts of calls that have failed
}

// NewSession grants a lease and keeps it alive. It blocks until etcd has answered or ctx ends. ctx
// bounds only the creation, and the session lives on after it. While etcd does not answer,
// NewSession tries again, each time for a few seconds at most, and logs the reason after the first
// second. The error of ctx includes the reason of the last try: a connection that is refused, a
// name that is not found, a failed TLS handshake, or no answer at all.
//
// Errors:
//   - [ErrNilClient]
//   - [ErrInvalidTTL]
//   - [ErrInvalidOption]
//   - [ErrLeaseNotFound], with [WithLease]
//   - [ErrLeaseFileInUse], with [WithLeaseFile]
//   - [ErrClientClosed]
//   - the errors of ctx, of etcd and of the system
func NewSession(ctx context.Context, client *clientv3.Client, opts ...SessionOption) (*Session, error) {
	if client == nil {
		return nil, fmt.Errorf("etcdlock: new session: %w", ErrNilClient)
	}
	cfg := defaultSessionConfig(client)
	for _, o := range opts {
		o.applySession(&cfg)
	}
	cfg.tracer = newTracer(cfg.traces, cfg.Hooks.Clock)
	cfg.tracer.report(&cfg.Config)
	s, err := newSession(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("etcdlock: new session: %w", err)
	}
	return s, nil
}

func newSession(ctx context.Context, cfg sessionConfig) (*Session, error) {
	cfg.short = wire.Identify(cfg.owner, hostname(), pid())
	s := &Session{cfg: cfg}
	var err error
	s.engine, err = session.Open(ctx, cfg.Config, func(e *session.Session) session.Manager {
		s.etcd = &e.Etcd
		s.manager = lockmgr.New(lockmgr.Config{
			Life: e.Context(), Client: e.Client, KV: e.KV, Leases: e.Leases, Writer: e.Writer, Queues: e.Queues, Clock: cfg.Hooks.Clock, Log: e.Log,
			GivesUp: cfg.LeaseFile != "", Insist: e.Insist, RevokeFormer: e.RevokeFormer, LeftBehind: cfg.tracer.leftBehind(), Fail: e.Fail,
		})
		return s.manager
	})
	if err != nil {
		return nil, err
	}
	s.cfg.Config = s.engine.Config()
	if s.cfg.Hooks.Opened != nil {
		s.cfg.Hooks.Opened(s, s.cfg.Dedicated)
	}
	return s, nil
}

// Client returns the etcd client that the session was made with.
func (s *Session) Client() *clientv3.Client {
	if s.valid() != nil {
		return nil
	}
	return s.etcd.Client
}

// Lease returns the current lease. It returns [clientv3.NoLease] while there is none, between two
// leases or after the end of the session.
func (s *Session) Lease() clientv3.LeaseID {
	if s.valid() != nil {
		return clientv3.NoLease
	}
	return s.engine.Lease()
}

// TTL returns the TTL of the current lease, or of the last one: the TTL of [WithTTL], or of the
// lease given to [WithLease], as etcd granted it. It does not include the delay of [WithLockDelay],
// so that a program can derive deadlines from it. A hold ends at most one TTL after the last
// answered renewal. TTL makes no request.
func (s *Session) TTL() time.Duration {
	if s.valid() != nil {
		return 0
	}
	return s.engine.LastLease().TTL()
}

// LeaseTTL returns the TTL that etcd granted for the current lease, or for the last one: TTL and
// the delay of [WithLockDelay]. After a crash etcd keeps the session's keys for that long.
func (s *Session) LeaseTTL() time.Duration {
	if s.valid() != nil {
		return 0
	}
	return s.engine.LastLease().Granted()
}

// Done returns a channel that is closed when the session has ended for good. The loss of a lease
// does not end the session.
func (s *Session) Done() <-chan struct{} {
	if s.valid() != nil {
		return endedForNoHold.Done()
	}
	return s.engine.Context().Done()
}

// Err returns nil until the session has ended, and then the reason. The reason always matches
// [ErrSessionClosed]. It also matches [ErrClientClosed] or [ErrOrphaned] if one of these ended the
// session.
func (s *Session) Err() error {
	if err := s.valid(); err != nil {
		return err
	}
	return s.engine.Err()
}

// State returns the present state.
func (s *Session) State() State {
	if s.valid() != nil {
		return StateClosed
	}
	return State(s.engine.State())
}

// States yields the present state and then every change, in order, until ctx ends or StateClosed
// was yielded. A slow consumer misses none.
func (s *Session) States(ctx context.Context) iter.Seq[State] {
	return func(yield func(State) bool) {
		if s.valid() != nil {
			yield(StateClosed)
			return
		}
		for state := range s.engine.States(ctx) {
			if !yield(State(state)) {
				return
			}
		}
	}
}

// Close ends the session. It ends all holds and waits at once, with [ErrSessionClosed], and revokes
// the lease, which deletes everything the session has in etcd in one request. It blocks until etcd
// has confirmed that or ctx ends, but not beyond the end of the lease in etcd. If ctx has ended
// already, Close still makes one attempt, which takes a second at most. A deferred Close under a
// context that SIGTERM has cancelled therefore releases everything. After an error the lease is
// left to expire. Nothing stays longer than one TTL, and no goroutine stays at all.
//
// Close does not wait for the work that is done under a lock. If others must not acquire a lock
// before that work has ended, release it first.
//
// A second Close returns nil. A Close after the client was closed returns [ErrClientClosed],
// because it can revoke nothing.
func (s *Session) Close(ctx context.Context) error {
	if err := s.valid(); err != nil {
		return closeError(err)
	}
	return closeError(s.engine.Close(ctx))
}

func init() {
	compathook.CloseWithin = func(ctx context.Context, session any) error {
		return closeError(session.(*Session).engine.CloseWithin(ctx))
	}
}

// closeError is the error of Close.
func closeError(err error) error {
	if err != nil {
		return fmt.Errorf("etcdlock: close session: %w", err)
	}
	return nil
}

// Orphan ends the session, but leaves the lease and the keys of all holds in etcd, for a process
// that takes them over within the TTL through [WithLease]. It returns the lease for that process.
// All holds and waits end in this process with [ErrOrphaned].
//
// It blocks until everything else that the session had in etcd is known to be gone, or ctx ends. If
// ctx ends first, the session continues as if Orphan had not been called, except that its waits
// have ended. If ctx has ended already, Orphan tries for a second at most.
//
// Errors:
//   - the error of ctx
//   - [ErrLost] if there is no lease to leave; the session has ended nevertheless
func (s *Session) Orphan(ctx context.Context) (clientv3.LeaseID, error) {
	err := s.valid()
	var id clientv3.LeaseID
	if err == nil {
		id, err = s.engine.Orphan(ctx)
	}
	if err != nil {
		return clientv3.NoLease, fmt.Errorf("etcdlock: orphan session: %w", err)
	}
	return id, nil
}

// valid returns an error if NewSession has not made the session.
func (s *Session) valid() error {
	if s == nil || s.engine == nil {
		return errNotASession
	}
	return nil
}

// usable is why a session cannot do anything under a name; nil if it can.
func (s *Session) usable(name string) error {
	if err := s.valid(); err != nil {
		return err
	}
	check := wire.CheckName
	if s.cfg.foreignNames {
		check = wire.CheckForeignName
	}
	if err := check(name); err != nil {
		return err
	}
	return s.Err()
}

// refusals count the calls of a session that have acquired nothing.
type refusals struct{ locked, gaveUp, failed atomic.Int64 }

func (r *refusals) count(err error) {
	switch {
	case err == nil:
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		r.gaveUp.Add(1)
	case errors.Is(err, ErrLocked):
		r.locked.Add(1)
	default:
		r.failed.Add(1)
	}
}
