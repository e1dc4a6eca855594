package etcdlock

import "sync"

// Role is what an [Election.Run] is in its election.
type Role int

const (
	// RoleObserver: it is not in line. So it begins, is while it is unhealthy, pauses after
	// a loss, and ends.
	RoleObserver Role = iota + 1
	// RoleCandidate: it is in line.
	RoleCandidate
	// RoleLeading: its function runs.
	RoleLeading
	// RoleStopping: its function was told to stop, and has not returned yet. Nobody else
	// leads meanwhile, unless the term was lost or the function itself resigned.
	RoleStopping
)

// String is the role's name in lower case.
func (r Role) String() string {
	switch r {
	case RoleObserver:
		return "observer"
	case RoleCandidate:
		return "candidate"
	case RoleLeading:
		return "leading"
	case RoleStopping:
		return "stopping"
	default:
		return "unknown"
	}
}

// mostChanges bounds the calls that wait to tell of a leader.
const mostChanges = 256

// notices calls the callbacks of a Run one after the other, in a goroutine of their
// own.
type notices struct {
	mu      sync.Mutex
	role    Role // the last one entered
	queue   []func()
	leaders []Leader      // those that queued calls are to tell of, oldest first
	wake    chan struct{} // holds one
	over    bool
	done    chan struct{}
}

func startNotices() *notices {
	n := &notices{wake: make(chan struct{}, 1), done: make(chan struct{})}
	go n.run()
	return n
}

func (n *notices) run() {
	calling := false
	defer func() {
		if calling { // a callback has ended this goroutine; those after it are told all the same
			go n.run()
			n.ring()
			return
		}
		close(n.done)
	}()
	for range n.wake {
		for {
			n.mu.Lock()
			if len(n.queue) == 0 {
				over := n.over
				n.mu.Unlock()
				if over {
					return
				}
				break
			}
			call := n.queue[0]
			n.queue[0] = nil // what the call refers to goes before the array does
			n.queue = n.queue[1:]
			n.mu.Unlock()
			calling = true
			call()
			calling = false
		}
	}
}

// put adds a call.
func (n *notices) put(call func()) {
	n.mu.Lock()
	n.queue = append(n.queue, call)
	n.mu.Unlock()
	n.ring()
}

// leader adds a call that tells of a leader. Of more than mostChanges that wait, the oldest is
// dropped.
func (n *notices) leader(l Leader, tell func(Leader)) {
	n.mu.Lock()
	n.leaders = append(n.leaders, l)
	full := len(n.leaders) > mostChanges
	if full {
		n.takeLeader()
	} else {
		n.queue = append(n.queue, func() {
			n.mu.Lock()
			l := n.takeLeader()
			n.mu.Unlock()
			tell(l)
		})
	}
	n.mu.Unlock()
	n.ring()
}

// takeLeader takes the oldest of the leaders. Called with mu held.
func (n *notices) takeLeader() Leader {
	l := n.leaders[0]
	n.leaders[0] = Leader{}
	n.leaders = n.leaders[1:]
	return l
}

func (n *notices) ring() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// enter tells whether a role is another one than before.
func (n *notices) enter(role Role) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	old := n.role
	n.role = role
	return old != role
}

// end waits until all was told.
func (n *notices) end() {
	n.mu.Lock()
	n.over = true
	n.mu.Unlock()
	n.ring()
	<-n.done
}
