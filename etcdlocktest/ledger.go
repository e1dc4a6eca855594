package etcdlocktest

import (
	"fmt"
	"slices"
	"sync"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/broadcast"
)

// ledger has what the code under test got, and wakes those that wait for a change.
type ledger struct {
	mu     sync.Mutex
	news   broadcast.Signal
	taken  []*taken  // holds, in the order of their grants
	opened []*opened // sessions
}

// taken is a hold that the code under test got.
type taken struct {
	process *Process
	names   []string
	hold    held
	created int64
	from    []uintptr
}

// held is what is needed of a hold.
type held interface {
	Err() error
	Token() int64
	CreateRevision() int64
}

func (h *taken) String() string {
	return fmt.Sprintf("process %q holds %q with token %d, from\n%s", h.process.name, h.names, h.hold.Token(), stack(h.from))
}

// opened is a session that the code under test made.
type opened struct {
	process *Process
	session *etcdlock.Session
	run     bool // it belongs to a Run, which closes it
	from    []uintptr
}

// opened is called in the goroutine of NewSession.
func (p *Process) opened(session any, run bool) {
	o := &opened{process: p, session: session.(*etcdlock.Session), run: run, from: callers()}
	l := &p.etcd.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opened = append(l.opened, o)
}

// granted is called in the goroutine that locks.
func (p *Process) granted(hold any, names []string) {
	h := hold.(held)
	t := &taken{process: p, names: names, hold: h, created: h.CreateRevision(), from: callers()}
	l := &p.etcd.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken = append(l.taken, t)
	l.news.Broadcast()
}

// change wakes those that wait for a change.
func (l *ledger) change() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.news.Broadcast()
}

// changed returns a channel that is closed at the next change.
func (l *ledger) changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.news.Changed()
}

// grantOf is the first hold by an entry, nil if no process was told of one.
func (l *ledger) grantOf(n entry) *taken {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.taken {
		if t.created == n.created && slices.Contains(t.names, n.name) {
			return t
		}
	}
	return nil
}

// sessions are all that were made on clients of processes.
func (l *ledger) sessions() []*opened {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.opened)
}

// live are the holds that have not ended.
func (l *ledger) live() (all []*taken) {
	l.mu.Lock()
	granted := slices.Clone(l.taken)
	l.mu.Unlock()
	for _, t := range granted {
		if t.hold.Err() == nil {
			all = append(all, t)
		}
	}
	return all
}
