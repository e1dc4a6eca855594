package etcdlocktest

import (
	"fmt"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

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
	for _, c := range queue.Contenders(name, e.server.keys(name+"/")) {
		entries = append(entries, entry{
			name: name, key: string(c.Key), created: c.CreateRevision, lease: clientv3.LeaseID(c.Lease),
			holding: len(c.Ahead) == 0, process: e.fleet.user(clientv3.LeaseID(c.Lease)),
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
	for _, h := range e.ledger.live() {
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

// tick bounds how long a wait by the wall clock goes without a look.
const tick = 20 * time.Millisecond

// toldOf reports whether the process knows that it holds by an entry. That of a session of another
// package, such as etcd's own, is taken to know.
func (e *Etcd) toldOf(n entry) bool {
	ours := slices.ContainsFunc(e.ledger.sessions(), func(o *opened) bool { return o.session.Lease() == n.lease })
	return !ours || e.ledger.grantOf(n) != nil
}

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
		changed := e.ledger.changed()
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
