package etcdlock

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Trace is a set of hooks, in the manner of net/http/httptrace, for metrics, traces and logs. Give
// it to a session with [WithTrace]. Any hook may be nil. A session copies the hooks when it is made.
//
// Hooks are called without a mutex of this package. They may be called at the same time, so they
// have to be safe for concurrent use, and they may call any method of the session. Each takes one
// struct, which can get more fields in a later version.
//
// A hook never affects which session holds. A hold ends at its deadline by the clock, and a key is
// deleted by requests that wait for no hook:
//   - AcquireStart, Queued, AcquireEnd and ReleaseEnd are called by the goroutine of the call, and so
//     is the HoldEnd of a release, after etcd has answered. A hook that blocks delays this call. While
//     Queued blocks, the call stays in the queue even if its context ends, and may hold. While
//     AcquireEnd blocks, its caller holds what it has not received yet.
//   - The HoldEnd of a loss has a goroutine of its own.
//   - Renewal, SessionState, LeftBehind and Asked are called one after the other, in order, by one
//     goroutine for each session. While one of them blocks, the next ones wait, and beyond 1024 of
//     them further ones are dropped.
//   - Role, TermEnd, LeaderSeen and Health are called as the callbacks of [Election.Run] are, see
//     [WithOnRole], and Stuck as [WithOnStuck] is.
//
// [Session.Close] does not wait for hooks. Release before Close if a trace has to have each HoldEnd
// when the program ends.
//
// A panic in a hook is not recovered. In the goroutine of a call it passes through the call. In
// AcquireEnd the hold is released first, because the caller cannot receive it any more. In any other
// goroutine a panic ends the program, and all its holds with it.
type Trace struct {
	// AcquireStart is called when a call begins to acquire. The call uses the context that it
	// returns, which is to be derived from ctx, and later hooks of the call and its hold get it too.
	AcquireStart func(ctx context.Context, info AcquireStartInfo) context.Context
	// Queued is called once if the call has to wait, in etcd or for another goroutine of the session.
	Queued func(ctx context.Context, info QueuedInfo)
	// AcquireEnd is called when the call returns, with a hold or an error.
	AcquireEnd func(ctx context.Context, info AcquireEndInfo)
	// Deadlock is called before AcquireEnd, if the call is refused with [ErrDeadlock].
	Deadlock func(ctx context.Context, info DeadlockInfo)
	// HoldEnd is called once for each hold, when it is released or lost. A hold that is converted by
	// Downgrade or Upgrade ends as released, and another one begins.
	HoldEnd func(ctx context.Context, info HoldEndInfo)
	// ReleaseEnd is called when an Unlock, Release, Resign or Transfer returns.
	ReleaseEnd func(ctx context.Context, info ReleaseEndInfo)
	// Asked is called with each request that a hold receives by its method Asked.
	Asked func(ctx context.Context, info AskedInfo)

	// Renewal is called for each renewal of the lease that was answered, failed or is overdue.
	Renewal func(ctx context.Context, info RenewalInfo)
	// SessionState is called for each state of the session, as [Session.States] yields it.
	SessionState func(ctx context.Context, info SessionStateInfo)
	// LeftBehind is called for a key that a request without an answer may have left in etcd. The
	// session deletes the key in the background.
	LeftBehind func(ctx context.Context, info LeftBehindInfo)

	// Role is called for each role of an [Election.Run], as the callback of WithOnRole is.
	Role func(ctx context.Context, info RoleInfo)
	// TermEnd is called when the function of an Election.Run has returned.
	TermEnd func(ctx context.Context, info TermEndInfo)
	// LeaderSeen is called for each observation of a leader by an Election.Run. With this hook each
	// Run observes its election.
	LeaderSeen func(ctx context.Context, info LeaderSeenInfo)
	// Stuck is called when the function of an Election.Run is stuck.
	Stuck func(ctx context.Context, info StuckTerm)
	// Health is called for each change of the health of an Election.Run with [WithHealthCheck].
	Health func(ctx context.Context, info HealthInfo)
}

// WithTrace sets the hooks that are called for events of the session, of its holds and of its
// elections. It can be given several traces, and can be given several times. All of them are called,
// in the order of the options. Without this option, events cost nothing.
func WithTrace(traces ...*Trace) SessionOption {
	return sessionOptionFunc(func(c *sessionConfig) { c.traces = append(c.traces, traces...) })
}

// Kind is the kind of what a call acquires.
type Kind int

// The kinds.
const (
	KindMutex     Kind = iota + 1 // [Mutex] and [Striped]
	KindRead                      // [RWMutex.RLock]
	KindWrite                     // [RWMutex.Lock]
	KindSemaphore                 // [Semaphore]
	KindSet                       // [MultiMutex]
	KindElection                  // [Election]
)

// String returns the name of the kind for metrics and logs: mutex, rw_read, rw_write, semaphore, set
// or election.
func (k Kind) String() string {
	return nameOf(int(k)-1, "mutex", "rw_read", "rw_write", "semaphore", "set", "election")
}

// Path is how a hold was acquired.
type Path int

// The paths.
const (
	PathFree     Path = iota + 1 // nothing was in the way
	PathRetained                 // the session had kept the key, see [WithRetention]
	PathLocal                    // in memory, from or beside another goroutine of the session
	PathQueued                   // after a wait in etcd
)

// String returns the name of the path for metrics and logs: free, retained, local or queued.
func (p Path) String() string { return nameOf(int(p)-1, "free", "retained", "local", "queued") }

func nameOf(i int, names ...string) string {
	if i < 0 || i >= len(names) {
		return "unknown"
	}
	return names[i]
}

// AcquireStartInfo describes a call that acquires.
type AcquireStartInfo struct {
	Kind  Kind
	Name  string   // the first one of several
	Names []string // of [KindSet]; nil otherwise
	Try   bool     // true for TryLock and the like, which do not wait
}

// QueuedInfo describes a call that has to wait.
type QueuedInfo struct {
	AcquireStartInfo
	// Ahead is how many entries of the queue and goroutines of the session are ahead, as far as that
	// was read without a further request. It is at least 1.
	Ahead int
}

// AcquireEndInfo describes a call that has acquired or failed.
type AcquireEndInfo struct {
	AcquireStartInfo
	Err    error         // of the call; nil if it has acquired
	Waited time.Duration // since AcquireStart
	Path   Path          // 0 after an error
	Hold   HoldInfo      // zero after an error
}

// HoldInfo describes a hold.
type HoldInfo struct {
	Kind           Kind
	Name           string   // the first one of several
	Names          []string // of [KindSet]; nil otherwise
	Key            string   // of Name
	Token          int64
	CreateRevision int64 // of Key
	Lease          clientv3.LeaseID
	Since          time.Time // of the grant
}

// HoldEndInfo describes the end of a hold.
type HoldEndInfo struct {
	Hold HoldInfo
	Held time.Duration
	// Cause is the error of [Held.Err]: it matches [ErrReleased], [ErrLost] or [ErrSessionClosed].
	Cause error
}

// ReleaseEndInfo describes a release that has returned.
type ReleaseEndInfo struct {
	Hold HoldInfo
	Took time.Duration
	Err  error // of the call
}

// DeadlockInfo describes a call that was refused because of a deadlock.
type DeadlockInfo struct {
	AcquireStartInfo
	Err *DeadlockError // nil if a try was refused for a hold of its own caller
}

// AskedInfo describes a request to release.
type AskedInfo struct{ Request ReleaseRequest }

// RenewalInfo describes a renewal of the lease.
type RenewalInfo struct {
	RTT  time.Duration // from the request to the answer or the failure, or until now
	Left time.Duration // until all holds would have ended without this answer
	Err  error         // why it failed; nil if it was answered
}

// SessionStateInfo describes a change of the state of a session.
type SessionStateInfo struct {
	From State // 0 for the first state
	To   State
	Err  error // why the session is suspended, lost or closed; nil if it is connected
}

// LeftBehindInfo describes a key that may have been left behind.
type LeftBehindInfo struct{ Name, Key string }

// RoleInfo describes a role of an [Election.Run].
type RoleInfo struct {
	Election string
	Role     Role
}

// TermEndInfo describes the end of a term of an [Election.Run].
type TermEndInfo struct {
	Election       string
	Token          int64
	CreateRevision int64
	Led            time.Duration // from the call of the function until it returned
	Told           error         // why the function was told to stop; nil if it was not
	Stop           time.Duration // from when it was told to stop until it returned
	Lost           error         // why the term had ended before the function returned; nil if it stood
}

// LeaderSeenInfo describes an observation of the leader of an election.
type LeaderSeenInfo struct {
	Election string
	Leader   Leader
}

// HealthInfo describes the health of a process.
type HealthInfo struct {
	Election string
	Err      error // why the process is unhealthy; nil if it is healthy
}
