package etcdlock

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"go.uber.org/zap"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/clock"
	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/liveness"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/slogcore"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// DefaultTTL is the TTL of a session that is made without [WithTTL]: short
// enough that a crash is over soon, long enough to sit out a new raft leader
// (1 to 2 s) and a restart of one member twice over.
const DefaultTTL = 10 * time.Second

// SessionOption changes what [NewSession] does by default.
type SessionOption interface{ applySession(*sessionConfig) }

// MutexOption changes what [NewMutex], [NewRWMutex] and [NewStriped] do by default. Each
// [LockOption] is one.
type MutexOption interface{ applyMutex(*mutexConfig) }

// LockOption changes what each kind of lock does by default: also [NewSemaphore] and
// [NewMultiMutex], which have no use for the further options of a mutex.
type LockOption interface {
	MutexOption
	forEachLock()
}

// SharedOption is an option of a session, for all of its locks, or of one lock.
type SharedOption interface {
	SessionOption
	LockOption
}

// ElectionOption changes what [NewElection] does by default.
type ElectionOption interface{ applyElection(*electionConfig) }

// electionConfig is what NewElection can be told.
type electionConfig struct {
	priority int
	takeover bool
	patience time.Duration // before a leader makes way
}

func (c *electionConfig) validate() error {
	if c.patience < 0 {
		return fmt.Errorf("%w: %v until a takeover is negative", ErrInvalidOption, c.patience)
	}
	return nil
}

type electionOptionFunc func(*electionConfig)

func (f electionOptionFunc) applyElection(c *electionConfig) { f(c) }

// sessionConfig holds every default in one place; validate holds every bound.
type sessionConfig struct {
	ttl    time.Duration
	ttlSet bool          // WithTTL was given
	margin time.Duration // 0: a tenth of the granted TTL, at most a second
	delay  time.Duration // by how much the lease outlives what is held under it
	lease  clientv3.LeaseID
	logger *zap.Logger // nil: the client's
	clock  func() time.Duration
	owner  string
	cycle  *string // the default of mutexConfig.cycle

	leaseFile string // "": none

	listenAt *string            // where crash detection listens; nil: off
	listener *liveness.Listener // that of another session of this process; nil: a new one

	dedicated bool // it is the own session of a Run, which ends it

	foreignNames bool

	// For tests.
	net    liveness.Network
	remote pb.LeaseClient // what renewals are opened on, see newStreams
	slots  int            // of etcdkv.WriterConfig
	// shortQueue and prefetch are those of queue.Config.
	shortQueue int
	prefetch   int64
	// watches is what watches are opened on, see newStreams.
	watches pb.WatchClient
	// direct and pace are those of etcdkv.WriterConfig. Without a direct it is etcdkv.Direct.
	direct etcdkv.Transactor
	pace   func(ctx context.Context, name string)
}

// defaultClock is replaced by tests whose sessions are made by another package in virtual time.
var defaultClock = clock.Now

func defaultSessionConfig() sessionConfig {
	return sessionConfig{ttl: DefaultTTL, clock: defaultClock, owner: defaultOwner(), slots: etcdkv.Slots, net: liveness.TCP{}}
}

// defaultOwner is good enough to find a process by: its program's name. Host
// and process ID are told beside it.
func defaultOwner() string {
	if exe, err := os.Executable(); err == nil {
		return baseName(exe)
	}
	return "unknown"
}

func (c *sessionConfig) validate() error {
	switch {
	case c.ttl < time.Second || c.ttl%time.Second != 0:
		return fmt.Errorf("%w: %v: etcd counts a TTL in whole seconds, from 1s", ErrInvalidTTL, c.ttl)
	case c.margin < 0:
		return fmt.Errorf("%w: margin %v is negative", ErrInvalidOption, c.margin)
	case c.margin > c.ttl/2:
		// Renewals come at a third of the TTL: with more than half of it given
		// away, one lost renewal would end every hold.
		return fmt.Errorf("%w: margin %v is more than half of the TTL %v", ErrInvalidOption, c.margin, c.ttl)
	case c.delay < 0 || c.delay%time.Second != 0:
		return fmt.Errorf("%w: lock-delay %v: etcd counts in whole seconds", ErrInvalidOption, c.delay)
	case c.leaseFile != "" && c.lease != clientv3.NoLease:
		return fmt.Errorf("%w: a lease to take over is given both by its ID and by a file", ErrInvalidOption)
	case c.clock == nil:
		return fmt.Errorf("%w: nil clock", ErrInvalidOption)
	case c.listenAt != nil:
		return validateListenAddress(*c.listenAt)
	}
	return nil
}

// goBy changes the TTL to that of a lease which was taken over, for the leases after it.
func (c *sessionConfig) goBy(leaseTTL time.Duration, log *zap.Logger) error {
	ttl := leaseTTL - c.delay
	if ttl <= 0 {
		return fmt.Errorf("%w: %w: lock-delay %v: the lease was granted for %v, and the delay is a part of that",
			ErrInvalidOption, ErrInvalidTTL, c.delay, leaseTTL)
	}
	if c.ttlSet && c.ttl != ttl {
		log.Warn("the TTL is that of the lease that was taken over, and not the one of WithTTL",
			zap.Duration("ttl", ttl), zap.Duration("WithTTL", c.ttl))
	}
	c.ttl = ttl
	return c.validate()
}

type sessionOptionFunc func(*sessionConfig)

func (f sessionOptionFunc) applySession(c *sessionConfig) { f(c) }

// WithTTL sets how long etcd keeps the session's keys after the last renewal:
// the time after which a crashed holder's lock goes to the next one. Whole
// seconds, at least the server's minimum (one and a half election timeouts: 2 s
// on a default etcd); anything else is [ErrInvalidTTL]. The default is
// [DefaultTTL].
func WithTTL(ttl time.Duration) SessionOption {
	return sessionOptionFunc(func(c *sessionConfig) { c.ttl, c.ttlSet = ttl, true })
}

// WithMargin sets how long before the lease can expire in etcd every hold of
// the session ends here. It covers clocks that run at different rates, and is
// the time the holder's work has to stop after its context was cancelled; see
// [WithStopTimeout] for the share of it that the work of [Election.Run] has. At
// most half of the TTL; 0, the default, means a tenth of the granted TTL, and at
// most one second.
func WithMargin(margin time.Duration) SessionOption {
	return sessionOptionFunc(func(c *sessionConfig) { c.margin = margin })
}

// WithLogger sets where the session logs what its operator should know: losses,
// etcd out of reach, stray keys. Nothing is logged while all is well. The
// default is the etcd client's logger, and so is nil. See [WithSlog] for log/slog.
func WithLogger(logger *zap.Logger) SessionOption {
	return sessionOptionFunc(func(c *sessionConfig) { c.logger = logger })
}

// WithSlog is [WithLogger] for a logger of log/slog. Levels, fields and errors arrive as slog has
// them, and the handler decides which levels it takes. Of WithLogger and WithSlog the later one in
// the options counts; nil is the default, as without either.
func WithSlog(logger *slog.Logger) SessionOption {
	return sessionOptionFunc(func(c *sessionConfig) {
		if c.logger = nil; logger != nil {
			c.logger = zap.New(slogcore.New(logger.Handler()), zap.AddCaller())
		}
	})
}

// WithClock replaces the clock by which deadlines are counted: the time since
// any fixed point, which must never go back and must go on while the machine
// sleeps. Meant for tests in virtual time; the default is CLOCK_BOOTTIME on
// Linux, and the faster one of monotonic and wall clock elsewhere.
func WithClock(now func() time.Duration) SessionOption {
	return sessionOptionFunc(func(c *sessionConfig) { c.clock = now })
}

// WithLease makes the session take over a lease that exists already, with the
// keys under it: a process that restarts within its TTL goes on where
// [Session.Orphan] left off. The TTL is the one the lease was granted with, and one of
// [WithTTL] that differs from it is logged and not used. NewSession fails with
// [ErrLeaseNotFound] when etcd does not know the lease, and with [ErrInvalidOption] when
// margin and lock-delay do not fit the lease's TTL.
//
// The keys under the lease stay for as long as the session lives, also those that it
// does not ask for: [Session.Adopted] lists them, [Session.ReleaseAdopted] gives them up.
// [Session.Orphan] leaves nothing but what was held; a crash leaves what was waited for as
// well.
//
// It is safe only when the process that had the lease is gone or has left it
// through Orphan: a lease stands for one holder, and two processes on one lease
// do not exclude each other. [WithLeaseFile] sees to that by itself; this option is for
// a lease that is handed on otherwise, as in the environment of a program that replaces
// itself by exec.
func WithLease(id clientv3.LeaseID) SessionOption {
	return sessionOptionFunc(func(c *sessionConfig) { c.lease = id })
}

// WithForeignNames lets the session use names that [NewMutex] otherwise refuses, for the
// sake of others who use them through etcd's own package, its commands or its
// services: names that end in a slash, as in etcd's examples ("/my-lock/", whose keys
// are "/my-lock//1f"), or have an empty part between slashes. The name has to be the
// very one that the others use; etcd's package adds the last slash of the key by itself,
// and so does this one.
//
// "/my-lock" and "/my-lock/" are two locks, of which the second lies inside the first:
// whoever comes to the first while somebody has the second gets [ErrNestedName], as
// does a session that uses both. But who comes to the second while another session has
// the first gets it. That is why such names have to be asked for.
func WithForeignNames() SessionOption {
	return sessionOptionFunc(func(c *sessionConfig) { c.foreignNames = true })
}

// WithOwner names the holder in the lock's value, for [Mutex.Queue] and for
// people who look at the keys. Given to a session it is the default of all its
// locks. Without it the owner is the program's name.
func WithOwner(owner string) SharedOption {
	return sharedOption{
		func(c *sessionConfig) { c.owner = owner },
		func(c *mutexConfig) { c.owner = owner },
	}
}

// DefaultTimeSlice is the time slice of a mutex that is made without
// [WithTimeSlice].
const DefaultTimeSlice = 10 * time.Millisecond

// mutexConfig is what NewMutex and its like can be told.
type mutexConfig struct {
	owner string
	who   wire.Identity // the same, for the value of a key
	terms terms
	cycle *string // the prefix under which cycles of waits are looked for; nil: they are not
}

func newMutexConfig[O MutexOption](s *Session, opts []O) mutexConfig {
	c := mutexConfig{terms: terms{slice: DefaultTimeSlice}}
	if s != nil {
		c.owner, c.cycle = s.cfg.owner, s.cfg.cycle
	}
	for _, o := range opts {
		o.applyMutex(&c)
	}
	c.who = wire.Identify(c.owner, hostname(), pid())
	return c
}

// claim is what is told to the line of a name. kind says what for, and want so to others.
func (c *mutexConfig) claim(ctx context.Context, try bool, kind string, want *wire.Holder, rule *queue.Rule) claim {
	return claim{
		as:      kind + c.owner,
		try:     try,
		terms:   c.terms,
		mode:    want.Mode,
		permits: want.Permits,
		want:    want,
		owner:   c.owner,
		who:     c.who,
		held:    carriedBy(ctx),
		rule:    rule,
		cycle:   c.cycle,
	}
}

// value is what is written to the key.
func (c *claim) value() string {
	if c.own != nil {
		return c.own()
	}
	if c.want == &wantsAll && c.held == nil && c.who != "" {
		return c.who.Since(time.Now().UTC()) // as nearly always
	}
	return c.restate(*c.want)
}

// restate is the value when it wants something else.
func (c *claim) restate(want wire.Holder) string {
	want.Owner, want.Holds = c.owner, c.held.keys()
	return holderValue(want)
}

type mutexOptionFunc func(*mutexConfig)

func (f mutexOptionFunc) applyMutex(c *mutexConfig) { f(c) }

type lockOptionFunc func(*mutexConfig)

func (f lockOptionFunc) applyMutex(c *mutexConfig) { f(c) }
func (lockOptionFunc) forEachLock()                {}

type sharedOption struct {
	session sessionOptionFunc
	lockOptionFunc
}

func (o sharedOption) applySession(c *sessionConfig) { o.session(c) }

// WithTimeSlice sets for how long, from a grant by etcd, Unlock hands the lock to the
// next goroutine of the same session that waits, in memory and without a request; the
// first Unlock after that lets other sessions have their turn. A stranger at the head
// of the line so waits for the slice and one more critical section at most. 0 means
// strict turns between sessions: every Unlock goes through etcd. The default is
// [DefaultTimeSlice].
//
// Goroutines that hand over in memory share the fencing token, as the fence stands
// between sessions; each has its own context and release.
func WithTimeSlice(slice time.Duration) MutexOption {
	return mutexOptionFunc(func(c *mutexConfig) { c.terms.slice = slice })
}

// WithRetention makes Unlock keep the key in etcd while nobody else wants it, so that
// this session locks again without a request. The key is given up at once when
// another session lines up, when it was not used for as long as idle, when renewals of
// the lease are not answered, and with the session. 0, the default, is no retention.
//
// Use it where one process locks the same name again and again and others rarely do.
// The next stranger pays for it: he waits for one notification and one deletion, about
// twice a plain handover, where the lock would have been free. While the key is kept,
// Unlock returns before anything is confirmed by etcd, [Mutex.Queue] shows the key, and
// other sessions' TryLock finds the lock taken. As a TryLock that fails writes nothing,
// nobody hears of it, and the key is not given up for it: so this is not for names that
// others take by TryLock alone.
func WithRetention(idle time.Duration) MutexOption {
	return mutexOptionFunc(func(c *mutexConfig) { c.terms.retention = idle })
}

// WithReentry lets a call under the context of a hold get another hold of the same turn, where
// it would fail with [ErrDeadlock] without this option. A function that locks for itself can
// then be called by a holder.
//
// The call returns at once and without a request. Its hold has a context and a release of its
// own, and the token and key of the first one. The holds can be released in any order, and the
// last release gives the lock away. At most max holds of one turn exist at a time, the first
// one included; beyond that the call fails with [ErrReentryLimit]. A max below 1 is no re-entry.
//
// The first hold has to cover what the call asks for, else the error is [ErrDeadlock] all the
// same. A write lock covers read locks, permits cover the same number or fewer, and a [LockSet]
// covers each part of its names. A read lock never covers a write lock; see [ReadLock.Upgrade].
//
// Re-entry is off by default because the context of a hold is what programs hand to the
// goroutines that work under it, as golang.org/x/sync/errgroup does. If two of these lock the
// same name with WithReentry, both hold it at the same time, with one token.
func WithReentry(max int) LockOption {
	return lockOptionFunc(func(c *mutexConfig) { c.terms.reentry = max })
}

// WithDeadlockDetection makes a call that would wait for ever, for somebody who waits for
// what the caller holds, fail with [ErrDeadlock] instead. What the caller holds is known from
// the context: call under [Held.Context], or the context of Do, of what is held. It costs
// one read of everything under prefix for each such wait in line; choose the prefix so
// that all locks which are taken together are under it. See [Session.Deadlocks].
//
// Of those in a cycle the one that lined up last is told, if it has the option. Callers of
// one session that hold something else then line up in etcd each for himself, where others
// can see them, and no more hand over to each other in memory.
//
// Given to a session it is the default of all its locks.
func WithDeadlockDetection(prefix string) SharedOption {
	return sharedOption{
		func(c *sessionConfig) { c.cycle = &prefix },
		func(c *mutexConfig) { c.cycle = &prefix },
	}
}

// WithLockDelay keeps what the session held from others for delay longer when its lease has
// expired, as opposed to a release or a Close: time for work that did not stop at the
// deadline, and for what it had sent, to come to its end. It is Chubby's and Consul's
// lock-delay, for resources that do not check tokens. Whole seconds; 0 is the default.
//
// It works against every kind of waiter, as the lease in etcd lives longer by that much, while
// holds end here as they would without. With the lease live the places in line that it had.
// A Close that comes after the lease has expired does not cut the delay short. A lease that
// is revoked, or a key that is deleted by an administrator, lets the next one in at once.
// With [WithLease] the delay is a part of the TTL that the lease was granted with.
func WithLockDelay(delay time.Duration) SessionOption {
	return sessionOptionFunc(func(c *sessionConfig) { c.delay = delay })
}

// WithPriority gives a candidate a priority, 0 by default: when the leader goes, of those who
// wait the one with the highest leads next, and among equals who came first. A leader is not
// disturbed by it. It costs nothing until it counts: then each candidate ahead who has a lower
// one steps behind, with one transaction, when it would be his turn. In a queue
// of more than 7, whose turn it is also reads the queue once.
//
// Candidates of other libraries know nothing of priorities; they lead when it is their turn
// by age. The priority stands in the candidate's key.
func WithPriority(priority int) ElectionOption {
	return electionOptionFunc(func(c *electionConfig) { c.priority = priority })
}

// WithTakeover lets a candidate take over from a leader of a lower priority, gracefully, once
// it has been in line for after without a break: so long that one that comes and goes does
// not make the leadership come and go with it; 0 is at once. Both of them must have the
// option: the candidate, whose key says so, and the leader, whose after counts. Never does
// anybody make way for an equal.
//
// A leader in [Election.Run] is told by the end of its function's context, with
// [ErrPreempted]; Run waits for the function to return, resigns, and campaigns again. One
// that called [Election.Campaign] waits in [Term.AwaitPreemption], and decides for itself.
//
// A candidate disturbs nobody while it is unhealthy ([WithHealthCheck]), as it is not in line
// then, nor when its lease was not renewed for half of its TTL. One that dies later than
// that costs what the crash of a leader costs. A leader to whom the leadership was handed
// by [Term.Transfer] makes way for nobody: that is how an operator overrules priorities.
func WithTakeover(after time.Duration) ElectionOption {
	return electionOptionFunc(func(c *electionConfig) { c.takeover, c.patience = true, after })
}
