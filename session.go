package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/answer"
	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/leasefile"
	"github.com/etcdlock/etcdlock/internal/liveness"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/lockorder"
	"github.com/etcdlock/etcdlock/internal/observe"
	"github.com/etcdlock/etcdlock/internal/perclient"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/timeline"
)

// Session keeps a lease in etcd alive, under which it has all keys of its locks and elections. One
// session serves any number of them, and any number of goroutines. A process rarely needs a second
// one.
//
// A session outlives its lease. When the lease is lost, all holds under it are lost and are
// notified. The session then obtains a new lease, and new acquisitions continue. The session ends
// with Close, Orphan, or the client.
type Session struct {
	client *clientv3.Client
	kv     clientv3.KV    // sends every request to the store, see etcdkv.KV
	leases clientv3.Lease // grants, revokes and asks, see etcdkv.Lease
	cfg    sessionConfig
	log    *zap.Logger

	ctx     context.Context // ends with the session, with the cause
	cancel  context.CancelCauseFunc
	tasks   sync.WaitGroup // every goroutine of the session
	writer  *etcdkv.Writer // sends every write
	queues  *queue.Queues  // makes the queues of names
	manager *manager
	streams *perclient.Streams // of renewals and watches, which the client's sessions share
	closed  chan struct{}      // closed when finish is through
	detach  func() bool        // stops watching the client
	failed  sync.Once          // see fail

	listener *liveness.Listener // nil without WithCrashDetection
	liveness *liveness.Record
	detector *liveness.Detector // nil without WithCrashDetection

	file *leasefile.File  // nil without WithLeaseFile
	heir clientv3.LeaseID // the lease that was taken over; NoLease for none

	timeline  *timeline.Tracker  // is shown what etcd answers
	followers *observe.Followers // of elections, for observers

	// mu guards what follows. It is never held across a request.
	mu             lockorder.Session
	lease          *lease.Lease   // the present one, or the last one
	leased         bool           // whether it is the present one
	number         int            // of lease, counted from 1
	era            int            // the timeline in which lease was granted
	pendingRevokes []*lease.Lease // earlier ones that are still to be revoked
	state          *stateNode
	ending         *ending         // how it has ended; nil before
	doubting       <-chan struct{} // closed when etcd has told whether there is another timeline; nil if it is not asked
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
	s, err := newSession(ctx, client, opts)
	if err != nil && ctx.Err() != nil && !answer.Final(err) && !errors.Is(err, ErrLeaseFileInUse) {
		if !errors.Is(err, ctx.Err()) {
			err = fmt.Errorf("%w; the last try: %w", lockerr.OfContext(ctx), unanswered(err))
		}
		err = fmt.Errorf("etcd at %v has not answered: %w", client.Endpoints(), err)
	}
	if err != nil {
		return nil, fmt.Errorf("etcdlock: new session: %w", err)
	}
	return s, nil
}

func newSession(ctx context.Context, client *clientv3.Client, opts []SessionOption) (*Session, error) {
	if client == nil {
		return nil, ErrNilClient
	}
	cfg := defaultSessionConfig(client)
	for _, o := range opts {
		o.applySession(&cfg)
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Session{
		client: client,
		cfg:    cfg,
		log:    cfg.logger,
		closed: make(chan struct{}),
		state:  newStateNode(StateConnected),
	}
	s.kv, s.timeline = timeline.Of(etcdkv.KV(client))
	s.timeline.OnChange = s.rolledBack
	s.leases = s.timeline.Leases(etcdkv.Lease(client))
	if s.log == nil {
		s.log = zap.NewNop()
		if l := client.GetLogger(); l != nil {
			s.log = l.Named("etcdlock")
		}
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	direct := etcdkv.Transactor(cfg.hooks.Direct)
	if direct == nil {
		direct = etcdkv.Direct(client)
	}
	s.writer = etcdkv.NewWriter(etcdkv.WriterConfig{
		Life: s.ctx, KV: s.kv, Direct: s.timeline.Transactor(direct), Slots: cfg.hooks.Slots, Spawn: s.spawn, Pace: cfg.hooks.Pace,
	})
	s.streams = s.newStreams()
	s.queues = queue.NewQueues(queue.Config{
		Life: s.ctx, KV: s.kv, Writer: s.writer, Watcher: s.streams.Watcher, Log: s.log,
		ShortQueue: cfg.hooks.ShortQueue, Prefetch: cfg.hooks.Prefetch,
	})
	s.followers = observe.New(observe.Config{
		Queue: s.queues.Queue, Outage: s.timeline.Outage, Leases: s.leases, DefaultTTL: s.TTL,
	})
	s.manager = newManager(managerConfig{
		ctx: s.ctx, client: client, kv: s.kv, leases: s.leases, writer: s.writer, queues: s.queues, clock: cfg.hooks.Clock, log: s.log,
		owner: cfg.owner, givesUp: cfg.leaseFile != "", insist: s.insist, revokeFormer: s.revokeFormer, fail: s.fail,
	})

	if err := s.detectCrashes(); err != nil {
		s.cancel(err)
		s.streams.Leave()
		return nil, err
	}
	first, err := s.firstLease(ctx)
	if err != nil {
		s.cancel(err)
		s.streams.Leave()
		s.listener.Close()
		s.file.Close()
		return nil, err
	}
	s.lease, s.leased, s.number, s.era = first, true, 1, s.timeline.Number()
	s.manager.setLease(first, s.number)
	s.liveness.SetLease(first)
	s.record(first.ID())
	if s.heir != clientv3.NoLease {
		s.manager.settleLegacy(first)
	}
	if s.cfg.hooks.Opened != nil {
		s.cfg.hooks.Opened(s, s.cfg.dedicated)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tasks.Go(s.run)
	s.detach = context.AfterFunc(client.Ctx(), func() {
		how := endWithClient
		if s.cfg.dedicated {
			how = endDedicatedClient // its lease lives on, and so may the work of the term
		}
		_ = s.shutdown(context.Background(), how)
	})
	return s, nil
}

// spawn starts a goroutine of the session; false once that has ended.
func (s *Session) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.state == StateClosed {
		return false
	}
	s.tasks.Go(f)
	return true
}

// firstLease grants the lease that NewSession returns with, or takes over the one
// it was told to.
func (s *Session) firstLease(ctx context.Context) (*lease.Lease, error) {
	if s.client.Ctx().Err() != nil {
		return nil, ErrClientClosed
	}
	if s.cfg.lease != clientv3.NoLease {
		return s.takeOver(ctx, s.cfg.lease)
	}
	if l, err := s.leaseFromFile(ctx); l != nil || err != nil {
		return l, err
	}
	var l *lease.Lease
	var id clientv3.LeaseID
	err := s.insistAloud(ctx, "the session", func(ctx context.Context) (err error) {
		l, err = lease.Grant(ctx, s.ctx, s.leaseConfig(1), &id)
		return err
	})
	if err != nil {
		return nil, err
	}
	if l.TTL() > s.cfg.ttl {
		l.End(ErrInvalidTTL)
		try, cancel := context.WithTimeout(ctx, tryTimeout)
		defer cancel()
		_ = l.Revoke(try) // it runs out by itself otherwise
		return nil, fmt.Errorf("%w: %v is below the minimum of this etcd, which is %v", ErrInvalidTTL, s.cfg.ttl, l.Granted())
	}
	return l, nil
}

// leaseConfig is that of the lease with a number.
func (s *Session) leaseConfig(number int) lease.Config {
	cfg := lease.Config{
		Client:      s.leases,
		TTL:         s.cfg.ttl + s.cfg.delay,
		Delay:       s.cfg.delay,
		Margin:      s.cfg.margin,
		Clock:       s.cfg.hooks.Clock,
		Answered:    func(ok bool, err error) { s.answered(number, ok, err) },
		Asking:      s.asking,
		Reconnect:   s.reconnect,
		FromReceipt: s.cfg.hooks.FromReceipt,
	}
	if s.streams.Renewals != nil {
		cfg.Renewer = s.streams.Renewals
	}
	return cfg
}

// Client returns the etcd client that the session was made with.
func (s *Session) Client() *clientv3.Client { return s.client }

// Lease returns the current lease. It returns [clientv3.NoLease] while there is none, between two
// leases or after the end of the session.
func (s *Session) Lease() clientv3.LeaseID {
	s.mu.Lock()
	l, leased := s.lease, s.leased
	s.mu.Unlock()
	if !leased || l.Err() != nil {
		return clientv3.NoLease
	}
	return l.ID()
}

// TTL returns the TTL of the current lease, or of the last one: the TTL of [WithTTL], or of the
// lease given to [WithLease], as etcd granted it. It does not include the delay of [WithLockDelay],
// so that a program can derive deadlines from it. A hold ends at most one TTL after the last
// answered renewal. TTL makes no request.
func (s *Session) TTL() time.Duration { return s.lastLease().TTL() }

// LeaseTTL returns the TTL that etcd granted for the current lease, or for the last one: TTL and
// the delay of [WithLockDelay]. After a crash etcd keeps the session's keys for that long.
func (s *Session) LeaseTTL() time.Duration { return s.lastLease().Granted() }

// lastLease is the current lease, or the last one while there is none.
func (s *Session) lastLease() *lease.Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease
}

// Done returns a channel that is closed when the session has ended for good. The loss of a lease
// does not end the session.
func (s *Session) Done() <-chan struct{} { return s.ctx.Done() }

// Err returns nil until the session has ended, and then the reason. The reason always matches
// [ErrSessionClosed]. It also matches [ErrClientClosed] or [ErrOrphaned] if one of these ended the
// session.
func (s *Session) Err() error { return context.Cause(s.ctx) }

// newStreams joins the streams of the client. A Lease or Watcher that another
// package has put in the place of clientv3's is called itself. A namespace concerns watches, but not leases.
func (s *Session) newStreams() *perclient.Streams {
	var on any // nil where a test opens the streams
	leases, watches := s.cfg.hooks.Renewals, s.cfg.hooks.Watches
	conn := s.client.ActiveConnection()
	if conn != nil && leases == nil && watches == nil {
		on = conn
	}
	if leases == nil && etcdkv.PlainLease(s.client) {
		leases = clientv3.RetryLeaseClient(s.client)
	}
	if watches == nil && etcdkv.PlainWatcher(s.client) {
		watches = pb.NewWatchClient(conn)
	}
	return perclient.Join(on, leases, watches, s.client)
}
