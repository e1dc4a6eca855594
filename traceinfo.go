package etcdlock

import (
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

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
	// Behind is the traceparent of the entry that was in the way last, see [Trace]. It is empty if the
	// entry has none, after a wait for another goroutine of the session, and if the value of the entry
	// was not read: no request is made to find out.
	Behind string
	Hold   HoldInfo // zero after an error
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
	Run      int64 // the number of the Run in this process, which tells Runs of one election apart
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
	Err            error         // what the function returned; not nil if it panicked or called runtime.Goexit
}

// LeaderSeenInfo describes an observation of the leader of an election.
type LeaderSeenInfo struct {
	Election string
	Leader   Leader
	Run      int64 // see RoleInfo
}

// HealthInfo describes the health of a process.
type HealthInfo struct {
	Election string
	Err      error // why the process is unhealthy; nil if it is healthy
}
