package etcdlock

import (
	"log/slog"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/session"
	"github.com/etcdlock/etcdlock/internal/slogcore"
	"github.com/etcdlock/etcdlock/internal/testhook"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// DefaultTTL is the TTL of a session that is made without [WithTTL]. It is short enough that a
// crash is over soon. It is long enough for a new raft leader (1 to 2 s), which is also what the
// restart of one member of three costs. docs/choosing.md has the arithmetic.
const DefaultTTL = 10 * time.Second

// SessionOption changes what [NewSession] does by default.
type SessionOption interface{ applySession(*sessionConfig) }

// sessionConfig has the options of NewSession. defaultSessionConfig has every default, and
// session.Config.Validate every bound.
type sessionConfig struct {
	session.Config
	owner        string
	short        wire.Identity // of the owner
	cycle        *string       // the default of mutexConfig.cycle
	foreignNames bool
	traces       []*Trace
	tracer       *tracer // of all traces; nil if there is none
}

func defaultSessionConfig(client *clientv3.Client) sessionConfig {
	return sessionConfig{owner: defaultOwner(), Config: session.Config{
		Client: client, TTL: DefaultTTL, Host: hostname(), Hooks: testhook.Of(client),
	}}
}

type sessionOptionFunc func(*sessionConfig)

func (f sessionOptionFunc) applySession(c *sessionConfig) { f(c) }

// WithTTL sets how long etcd keeps the session's keys after the last renewal. The lock of a crashed
// holder goes to the next waiter after this time. The TTL is in whole seconds and at least the
// server's minimum (one and a half election timeouts: 2 s on a default etcd). Any other value is
// [ErrInvalidTTL]. The default is [DefaultTTL].
func WithTTL(ttl time.Duration) SessionOption {
	return sessionOptionFunc(func(c *sessionConfig) { c.TTL, c.TTLSet = ttl, true })
}

// WithMargin sets how long before the lease can expire in etcd every hold of the session ends in
// this process. The margin covers clocks that run at different rates. It is also the time in which
// the holder's work has to stop after its context was cancelled; [WithStopTimeout] has the share of
// it that the work of [Election.Run] gets. It is at most half of the TTL. The default, 0, is a
// tenth of the granted TTL, and at most one second.
func WithMargin(margin time.Duration) SessionOption {
	return sessionOptionFunc(func(c *sessionConfig) { c.Margin = margin })
}

// WithLogger sets the logger to which the session reports what its operator should know, such as
// losses, an unreachable etcd, and stray keys. Nothing is logged while all is well. Without this
// option, or if logger is nil, the session uses the logger of the etcd client. See [WithSlog] for
// log/slog.
func WithLogger(logger *zap.Logger) SessionOption {
	return sessionOptionFunc(func(c *sessionConfig) { c.Log = logger })
}

// WithSlog is [WithLogger] for a logger of log/slog. Levels, fields and errors arrive as slog has
// them, and the handler decides which levels it takes. The later one of WithLogger and WithSlog in
// the options takes effect. A nil logger is the default, as without either option.
func WithSlog(logger *slog.Logger) SessionOption {
	return sessionOptionFunc(func(c *sessionConfig) {
		if c.Log = nil; logger != nil {
			c.Log = zap.New(slogcore.New(logger.Handler()), zap.AddCaller())
		}
	})
}

// WithLease makes the session take over a lease that exists already, with the keys under it, such
// as the lease that [Session.Orphan] returned. It is safe only if the process that had the lease is
// gone or has left it through Orphan, because two processes on one lease do not exclude each other.
// [WithLeaseFile] ensures this condition by itself. All keys under the lease stay while the session
// lives: [Session.Adopted] lists those that no call has asked for, and [Session.ReleaseAdopted]
// deletes them. The TTL is the one that the lease was granted with, and a different one of
// [WithTTL] is logged and not used.
//
// NewSession then has two further errors:
//   - [ErrLeaseNotFound] if etcd does not know the lease
//   - [ErrInvalidOption] if margin and lock-delay do not fit the TTL of the lease
//
// See "Restarts without an election" in docs/elections.md.
func WithLease(id clientv3.LeaseID) SessionOption {
	return sessionOptionFunc(func(c *sessionConfig) { c.Lease = id })
}

// WithLeaseFile lets a process that starts again within its TTL, also after a crash, continue with
// its locks, its terms and its places in queues, without an election. The session writes its lease
// to the file, and a session that finds a lease there takes it over if etcd still knows it. The
// kernel locks the file (flock) while the process lives, and NewSession waits for this lock, so two
// processes are never on one lease. This is safe only if the file is on a local file system, one
// for each instance of the service on a host and never copied, and if children that do the leader's
// work end with the process. A call such as [Mutex.Lock], [Election.Campaign] or [Election.Run]
// gets at once what the former process held, if it fits, and keys that no call asks for within one
// TTL are given up, see [Session.Adopted].
//
// NewSession then has two further errors:
//   - [ErrLeaseFileInUse] if its context ends before the file is free
//   - [ErrInvalidOption] on systems without flock
//
// End a planned restart with [Session.Orphan], because [Session.Close] gives everything back. See
// "Restarts without an election" in docs/elections.md for what the next process may change.
func WithLeaseFile(path string) SessionOption {
	return sessionOptionFunc(func(c *sessionConfig) { c.LeaseFile = path })
}

// WithCrashDetection lets candidates notice at once, and not one TTL later, that a leader's process
// has died. The session listens on address, a TCP address of this host that all candidates can
// reach ("10.0.0.5:7400" or "[fd00::5]:7400", as [net.JoinHostPort] writes it; port 0 for any). A
// candidate with this option keeps a connection to the leader, which needs the option too. If the
// connection breaks and the leader's address then refuses connections three times in a row, the
// candidate revokes the leader's lease, and with it everything that the leader's session had. A
// refusal is not proof in every network: a firewall, a proxy, or an address that moved to another
// machine can end the term of a live leader before its deadline, so use the option in a network
// that you know, for work that is fenced by [Held.Token] or [Lock.Guard].
//
// See "Crashes, detected before the TTL ends" in docs/elections.md for the cases that are left to
// the TTL, and for permissions.
func WithCrashDetection(address string) SessionOption {
	return sessionOptionFunc(func(c *sessionConfig) { c.ListenAt = &address })
}

// WithLockDelay keeps what the session held from other sessions for delay longer when its lease has
// expired, as opposed to a release or a Close. It gives time to work that did not stop at the
// deadline, and to requests that are still under way. It is the lock-delay of Chubby and Consul,
// for resources that do not check tokens. The delay is in whole seconds, and 0 is the default.
//
// The delay works against every kind of waiter, because the lease in etcd lives longer by that
// much, while holds end in this process at the same time as without it. The places of the session
// in queues also live as long as the lease. A Close after the lease has expired does not shorten
// the delay. The next waiter is admitted at once if a lease is revoked, or an administrator deletes
// a key. With [WithLease] the delay is a part of the TTL that the lease was granted with.
func WithLockDelay(delay time.Duration) SessionOption {
	return sessionOptionFunc(func(c *sessionConfig) { c.Delay = delay })
}

// WithForeignNames lets the session use names that [NewMutex] otherwise refuses, because other
// programs use them through etcd's own package, its commands or its services. Such a name ends in a
// slash, as in etcd's examples ("/my-lock/", with keys like "/my-lock//1f"), or has an empty part
// between slashes. The name has to be exactly the one that the other programs use. etcd's package
// adds the last slash of the key by itself, and so does this package.
//
// "/my-lock" and "/my-lock/" are two locks, and the second lies inside the first. A session that
// locks the first while another session has the second gets [ErrNestedName], as does a session that
// uses both. A session that locks the second while another session has the first does get the lock.
// For this reason such names need an option.
func WithForeignNames() SessionOption {
	return sessionOptionFunc(func(c *sessionConfig) { c.foreignNames = true })
}

// WithTrace sets the hooks that are called for events of the session, of its holds and of its
// elections. It can be given several traces, and can be given several times. All of them are called,
// in the order of the options. Without this option, events cost nothing.
func WithTrace(traces ...*Trace) SessionOption {
	return sessionOptionFunc(func(c *sessionConfig) { c.traces = append(c.traces, traces...) })
}
