package etcdlocktest

import (
	"fmt"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/queue"
)

// entry is one entry of the queue of a name.
type entry struct {
	name    string // of the queue
	key     string
	created int64
	lease   clientv3.LeaseID
	holding bool
	process *Process // nil if it is none of the test's
}

// owner names the process of an entry.
func (n *entry) owner() string {
	if n.process == nil {
		return fmt.Sprintf("lease %x", int64(n.lease))
	}
	return n.process.name
}

// queue is the queue of a name, as it is in etcd.
func (e *Etcd) queue(name string) (entries []entry) {
	kvs := e.server.keys(name + "/")
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range queue.Contenders(name, kvs) {
		entries = append(entries, entry{
			name: name, key: string(c.Key), created: c.CreateRevision, lease: clientv3.LeaseID(c.Lease),
			holding: len(c.Ahead) == 0, process: e.users[clientv3.LeaseID(c.Lease)],
		})
	}
	return entries
}

// holding is the holder of a name that came first.
func (e *Etcd) holding(name string) entry {
	e.t.Helper()
	entries := e.queue(name)
	if len(entries) == 0 {
		e.t.Fatalf("etcdlocktest: no process holds %q\n%s", name, e.Dump())
	}
	return entries[0]
}

// AwaitHeldBy waits until a process holds a name: a lock of any kind, or the leadership in an
// election. The call of the process that locks has then returned, or is about to return. A key that
// [etcdlock.WithRetention] keeps counts as held.
func (e *Etcd) AwaitHeldBy(name, process string) {
	e.t.Helper()
	e.await(fmt.Sprintf("%q held by %q", name, process), func() bool {
		return slices.ContainsFunc(e.queue(name), func(n entry) bool {
			return n.holding && n.process != nil && n.process.name == process && e.toldOf(n)
		})
	})
}

// AwaitFree waits until a name has no holder and no waiter.
func (e *Etcd) AwaitFree(name string) {
	e.t.Helper()
	e.await(fmt.Sprintf("%q free", name), func() bool { return len(e.queue(name)) == 0 })
}

// AwaitWaiting waits until n entries wait for a name, behind its holders. The goroutines of one
// session that wait for a mutex have one entry together.
func (e *Etcd) AwaitWaiting(name string, n int) {
	e.t.Helper()
	e.await(fmt.Sprintf("%q with %d waiting", name, n), func() bool {
		waiting := 0
		for _, entry := range e.queue(name) {
			if !entry.holding {
				waiting++
			}
		}
		return waiting == n
	})
}

// Holder returns the name of the process that holds a name, as etcd has it, and "" if the name is
// free. Of several holders it is the one that came first.
func (e *Etcd) Holder(name string) string {
	entries := e.queue(name)
	if len(entries) == 0 {
		return ""
	}
	return entries[0].owner()
}

// Dump describes the queues of all names, and what processes hold and have opened, with the stacks.
func (e *Etcd) Dump() string {
	var b strings.Builder
	fmt.Fprintf(&b, "in etcd:\n")
	for _, n := range e.entries() {
		what := "waits"
		if n.holding {
			what = "holds"
		}
		fmt.Fprintf(&b, "\t%q: %s %s, key %q since revision %d\n", n.name, n.owner(), what, n.key, n.created)
	}
	for _, h := range e.live() {
		fmt.Fprintf(&b, "%s", h)
	}
	return b.String()
}

// nameOf is the name of the queue that a key belongs to.
func nameOf(key string, lease clientv3.LeaseID) (name string, isEntry bool) {
	i := strings.LastIndex(key, fmt.Sprintf("/%x", int64(lease)))
	if i < 0 || lease == clientv3.NoLease {
		return "", false
	}
	return key[:i], true
}

// change wakes those that wait for a change.
func (e *Etcd) change() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.changed.Broadcast()
}

// tick bounds how long a wait by the wall clock goes without a look.
const tick = 20 * time.Millisecond

// await waits until a condition holds.
func (e *Etcd) await(what string, done func() bool) {
	e.t.Helper()
	if !e.within(e.cfg.patience, done) {
		e.t.Fatalf("etcdlocktest: not %s after %v\n%s", what, e.cfg.patience, e.Dump())
	}
}

// within waits until a condition holds, for as long as d.
func (e *Etcd) within(d time.Duration, done func() bool) bool {
	e.t.Helper()
	end := time.NewTimer(d)
	defer end.Stop()
	for {
		e.mu.Lock()
		changed := e.changed.Changed()
		e.mu.Unlock()
		var look <-chan time.Time
		if e.cfg.bubble {
			synctest.Wait() // the code under test is as far as it can be at this instant
		} else {
			look = time.After(tick)
		}
		if done() {
			return true
		}
		select {
		case <-changed:
		case <-look:
		case <-end.C:
			return done()
		}
	}
}

// find returns the process of that name, nil if there is none.
func (e *Etcd) find(name string) *Process {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.processes {
		if p.name == name {
			return p
		}
	}
	return nil
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
	p.etcd.mu.Lock()
	defer p.etcd.mu.Unlock()
	p.etcd.opened = append(p.etcd.opened, o)
}

// granted is called in the goroutine that locks.
func (p *Process) granted(hold any, names []string) {
	h := hold.(held)
	t := &taken{process: p, names: names, hold: h, created: h.CreateRevision(), from: callers()}
	p.etcd.mu.Lock()
	defer p.etcd.mu.Unlock()
	p.etcd.taken = append(p.etcd.taken, t)
	p.etcd.changed.Broadcast()
}

// toldOf reports whether the process knows that it holds by an entry. That of a session of another
// package, such as etcd's own, is taken to know.
func (e *Etcd) toldOf(n entry) bool {
	ours := slices.ContainsFunc(e.sessions(), func(o *opened) bool { return o.session.Lease() == n.lease })
	return !ours || e.grantOf(n) != nil
}

// grantOf is the first hold by an entry, nil if no process was told of one.
func (e *Etcd) grantOf(n entry) *taken {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, t := range e.taken {
		if t.created == n.created && slices.Contains(t.names, n.name) {
			return t
		}
	}
	return nil
}

// sessions are all that were made on clients of processes.
func (e *Etcd) sessions() []*opened {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.opened)
}

// live are the holds that have not ended.
func (e *Etcd) live() (all []*taken) {
	e.mu.Lock()
	granted := slices.Clone(e.taken)
	e.mu.Unlock()
	for _, t := range granted {
		if t.hold.Err() == nil {
			all = append(all, t)
		}
	}
	return all
}
