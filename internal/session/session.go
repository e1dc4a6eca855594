// Package session is one session: it keeps one lease after another in etcd, and tells the lock
// manager what becomes of the lease and of the session.
//
// A Session owns the present lease, the leases that are still to be revoked, the state, and the way
// in which the session has ended. All of these are under one mutex. Each transition is one function:
//
//	begin     a lease was granted or adopted          leaseloop.go
//	answered  etcd answers renewals, or stops to      leaseloop.go
//	lose      the lease has ended                     leaseloop.go
//	end       the session has ended                   shutdown.go
//
// A session knows its lock manager by the interface Manager alone. Every call of it has the number of
// the lease that it is about, so that the manager recognises a call that comes late.
package session

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/answer"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/leasefile"
	"github.com/etcdlock/etcdlock/internal/liveness"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/lockorder"
	"github.com/etcdlock/etcdlock/internal/observe"
	"github.com/etcdlock/etcdlock/internal/queue"
)

// Manager is the lock manager of a session. The session calls it without its own mutex, except for
// AnyName.
type Manager interface {
	// SetLease gives the manager a lease. Leases are numbered from 1.
	SetLease(l *lease.Lease, number int)
	// Adopt says that the first lease has keys of a former process.
	Adopt(l *lease.Lease)
	// Suspend reports whether etcd leaves the renewals of a lease unanswered.
	Suspend(number int, suspended bool)
	// LeaseLost tells that a lease has ended. It returns how many holds were lost with it, and
	// describes some of them for the log.
	LeaseLost(number int) (holds int, lost []string)
	// Drain closes the manager in the instant in which nothing is left in etcd but the keys of what
	// is held. After an error the manager continues as before.
	Drain(ctx context.Context) error
	// Close lets nothing begin any more.
	Close()
	// Forewarn tells entries of other sessions that keys of this one will go with the lease, if they
	// would not find out soon. ctx bounds it.
	Forewarn(ctx context.Context)
	// Wait blocks until every goroutine of a closed manager has ended.
	Wait()
	// AnyName returns a name that is in use.
	AnyName() (name string, ok bool)
}

// Session is one session. It is safe for concurrent use.
type Session struct {
	Etcd
	Followers *observe.Followers // of elections, for observers

	cfg     Config
	manager Manager
	ctx     context.Context // ends with the session, with the cause
	cancel  context.CancelCauseFunc
	tasks   sync.WaitGroup // every goroutine of the session
	closed  chan struct{}  // closed when finish is through
	failed  sync.Once      // see Fail

	presence presence
	liveness *liveness.Record
	detector *liveness.Detector // nil without crash detection

	// mu guards what follows. It is never held across a request.
	mu             lockorder.Session
	current        current
	pendingRevokes []*lease.Lease // earlier ones that are still to be revoked
	state          *stateNode
	ending         *ending         // how the session has ended; nil before
	detach         func() bool     // stops watching the client
	doubting       <-chan struct{} // closed when etcd has told whether there is another timeline; nil while it is not asked
}

// Open opens a session. It blocks until etcd has granted a lease, or confirmed the one to adopt, or
// ctx ends. ctx bounds only the call, and the session lives on after it. manager makes the lock
// manager of the session, before the first lease.
func Open(ctx context.Context, cfg Config, manager func(*Session) Manager) (*Session, error) {
	s, err := open(ctx, cfg, manager)
	if err != nil && ctx.Err() != nil && !answer.Final(err) && !errors.Is(err, lockerr.ErrLeaseFileInUse) {
		if !errors.Is(err, ctx.Err()) {
			err = fmt.Errorf("%w; the last attempt: %w", lockerr.OfContext(ctx), unanswered(err))
		}
		err = fmt.Errorf("etcd at %v has not answered: %w", cfg.Client.Endpoints(), err)
	}
	return s, err
}

func open(ctx context.Context, cfg Config, manager func(*Session) Manager) (*Session, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Session{cfg: cfg, closed: make(chan struct{}), state: newStateNode(StateConnected)}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.Etcd = newEtcd(s.ctx, &s.cfg, s.spawn)
	s.Timeline.OnChange = s.rolledBack
	s.Followers = observe.New(observe.Config{
		Queue: s.Queues.Queue, Outage: s.Timeline.Outage, Leases: s.Leases,
		DefaultTTL: func() time.Duration { return s.LastLease().TTL() },
	})
	s.presence = presence{log: s.Log, path: cfg.LeaseFile}
	s.manager = manager(s)

	var first *lease.Lease
	var adopted bool
	err := s.presence.listen(&s.cfg)
	if err == nil {
		s.liveness, s.detector = s.newLiveness()
		first, adopted, err = s.firstLease(ctx)
	}
	if err != nil {
		s.cancel(err)
		s.streams.Leave()
		s.presence.close()
		return nil, err
	}
	if s.cfg.OnState != nil {
		s.cfg.OnState(0, StateConnected, nil)
	}
	s.begin(first, 1)
	if adopted {
		s.manager.Adopt(first)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tasks.Go(func() { s.keepLeases(first) })
	s.detach = context.AfterFunc(cfg.Client.Ctx(), func() {
		how := endWithClient
		if cfg.Dedicated {
			how = endDedicatedClient // its lease lives on, and so may the work of the term
		}
		_ = s.shutdown(context.Background(), how)
	})
	return s, nil
}

// newLiveness makes the liveness record of the session, and the detector if there is a listener. The
// session has a record also without a listener, because a lease that is adopted may have one.
func (s *Session) newLiveness() (*liveness.Record, *liveness.Detector) {
	return liveness.New(liveness.Config{
		Context: s.ctx,
		KV:      s.KV,
		Leases:  s.Leases,
		Log:     s.Log,
		Spawn:   s.spawn,
		Insist:  s.Insist,
		Changes: func(ctx context.Context, key string, from int64, tell func(*clientv3.Event) (more bool)) {
			s.Queues.Queue(key).Changes(ctx, key, from, tell)
		},
		Observe: func(ctx context.Context, election string, tell func(liveness.Leader) (more bool)) error {
			return s.Followers.Observe(ctx, election, func(head queue.Head) bool { return tell(leaderOf(head)) })
		},
		OwnLease: s.Lease,
		Fail:     s.Fail,
	}, s.presence.listener)
}

// leaderOf is the leader of an election at one revision; the zero value for none.
func leaderOf(head queue.Head) liveness.Leader {
	if head.First == nil {
		return liveness.Leader{}
	}
	return liveness.Leader{
		Value: string(head.First.Value), Lease: clientv3.LeaseID(head.First.Lease), CreateRevision: head.First.CreateRevision,
	}
}

// WatchLeader watches, during a campaign, whether the process of the leader is alive, until stop is
// called.
func (s *Session) WatchLeader(ctx context.Context, election string) (stop func()) {
	return s.detector.Watch(ctx, election)
}

// spawn starts a goroutine of the session. It returns false if the session has ended.
func (s *Session) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.state == StateClosed {
		return false
	}
	s.tasks.Go(f)
	return true
}

// Config returns the config of the session, with the TTL of an adopted lease.
func (s *Session) Config() Config { return s.cfg }

// LeaseFile returns the lease file, which this process has locked; nil without one.
func (s *Session) LeaseFile() *leasefile.File { return s.presence.file }

// Context ends with the session. The cause tells why, see Err.
func (s *Session) Context() context.Context { return s.ctx }

// Err returns nil until the session has ended, and then the reason.
func (s *Session) Err() error { return context.Cause(s.ctx) }

// Within returns a context that ends with ctx, or with the session. A call that asks etcd by the
// context of its caller needs it: after the end of the client each try fails as if etcd were out of
// reach, and is repeated.
func (s *Session) Within(ctx context.Context) (context.Context, func()) {
	within, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.ctx, func() { cancel(s.Err()) })
	return within, func() { stop(); cancel(nil) }
}

// Lease returns the present lease; NoLease while there is none.
func (s *Session) Lease() clientv3.LeaseID {
	s.mu.Lock()
	now := s.current
	s.mu.Unlock()
	if !now.leased || now.lease.Err() != nil {
		return clientv3.NoLease
	}
	return now.lease.ID()
}

// LeaseCount returns how many leases the session has had.
func (s *Session) LeaseCount() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(s.current.number)
}

// LastLease returns the present lease, or the last one while there is none.
func (s *Session) LastLease() *lease.Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current.lease
}

// State returns the present state.
func (s *Session) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.state
}

// States yields the present state and then every change, in order, until ctx ends or StateClosed
// was yielded.
func (s *Session) States(ctx context.Context) iter.Seq[State] {
	return func(yield func(State) bool) {
		s.mu.Lock()
		now := s.state
		s.mu.Unlock()
		now.from(ctx)(yield)
	}
}

// enter changes to another state for a reason, which is nil for StateConnected. It returns false if the
// session is in that state already. It is the one place where the state changes. Called with s.mu held.
func (s *Session) enter(to State, why error) (changed bool) {
	from := s.state
	if from.state == to {
		return false
	}
	if err := States.Check(from.state, to); err != nil {
		s.Fail(err)
		return false
	}
	s.state = from.become(to)
	if s.cfg.OnState != nil {
		s.cfg.OnState(from.state, to, why)
	}
	return true
}

// Fail ends the session because of a bug in this module. A state machine was to take an illegal edge,
// and nothing that the session believes can be relied on. Every context ends at once, with the bug as
// the cause. The leases are left to expire, so that no other session is granted what is held here
// while the work stops. Fail may be called with any mutex held.
func (s *Session) Fail(bug error) {
	s.failed.Do(func() {
		s.Log.Error("the session ends, and its leases are left to expire", zap.Error(bug))
		how := &ending{cause: lockerr.SessionEnded(bug), expires: bug, keeps: true}
		s.cancel(how.cause)
		go func() { _ = s.shutdown(context.Background(), how) }() // it ends with the tasks of the session
	})
}
