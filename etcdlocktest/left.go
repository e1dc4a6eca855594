package etcdlocktest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// The bounds of a release that continues in the background after its caller has given up.
const (
	virtualGrace = 10 * time.Minute
	wallGrace    = 5 * time.Second
)

func (e *Etcd) grace() time.Duration {
	if e.cfg.bubble {
		return virtualGrace
	}
	return wallGrace
}

// NothingLeft fails the test if a process still holds or waits for anything, with the stack of the
// call that took it. It waits for releases that continue in the background. Sessions may be open.
//
// The end of the test checks this by itself. By then the code under test must have closed its own
// sessions, and no lease and no goroutine may be left.
func (e *Etcd) NothingLeft() {
	e.t.Helper()
	if !e.within(e.grace(), func() bool { return len(e.ledger.live()) == 0 && len(e.entries()) == 0 }) {
		e.reportLeft()
	}
}

// entries are the entries of all queues.
func (e *Etcd) entries() (all []entry) {
	names := make(map[string]bool)
	for _, kv := range e.server.keys("") {
		if name, isEntry := nameOf(string(kv.Key), clientv3.LeaseID(kv.Lease)); isEntry && !names[name] {
			names[name] = true
			all = append(all, e.queue(name)...)
		}
	}
	return all
}

// reportLeft fails the test with what processes hold and wait for.
func (e *Etcd) reportLeft() {
	e.t.Helper()
	for _, h := range e.ledger.live() {
		e.t.Errorf("etcdlocktest: not released: %s", h)
	}
	for _, n := range e.entries() {
		h, from := e.ledger.grantOf(n), "and no call got the name by it\n"
		switch {
		case h != nil && h.hold.Err() == nil:
			continue // told above
		case h != nil:
			from = fmt.Sprintf("taken first from\n%s", stack(h.from))
		}
		e.t.Errorf("etcdlocktest: the key %q of %s is left in etcd, %s", n.key, n.owner(), from)
	}
}

// end ends the test: everything has to be released, and is closed.
func (e *Etcd) end() {
	e.t.Helper()
	e.server.start()
	e.fleet.each((*Process).Heal)
	if e.t.Failed() {
		e.abandon()
		return
	}
	// t.Context has ended, and what runs under it comes to its end now.
	e.within(e.grace(), func() bool { return len(e.ledger.live()) == 0 && len(e.unclosed()) == 0 })
	for _, h := range e.ledger.live() {
		e.t.Errorf("etcdlocktest: not released: %s", h)
	}
	for _, o := range e.unclosed() {
		e.t.Errorf("etcdlocktest: process %q has not closed its session, from\n%s", o.process.name, stack(o.from))
	}
	e.closeSessions()
	e.expireKilled()
	if !e.within(e.grace(), func() bool { return len(e.entries()) == 0 && len(e.server.leases()) == 0 }) {
		e.reportLeft()
		for _, id := range e.server.leases() {
			e.t.Errorf("etcdlocktest: the lease %x of %s is left in etcd", int64(id), (&entry{lease: id, process: e.fleet.user(id)}).owner())
		}
	}
	e.abandon()
	if e.cfg.bubble {
		synctest.Wait()
		if left := inSameBubble(); len(left) > 0 {
			e.t.Errorf("etcdlocktest: goroutines are left:\n\n%s", strings.Join(left, "\n\n"))
		}
	}
}

// unclosed are the sessions that the code under test made and has not closed.
func (e *Etcd) unclosed() (all []*opened) {
	for _, o := range e.ledger.sessions() {
		if o.session.Err() == nil && !o.run && !slices.Contains(o.process.ownSessions(), o.session) {
			all = append(all, o)
		}
	}
	return all
}

// closeSessions closes all sessions.
func (e *Etcd) closeSessions() {
	for _, o := range e.ledger.sessions() {
		ctx, cancel := context.WithTimeout(context.Background(), e.grace())
		_ = o.session.Close(ctx) // what it leaves behind is looked for
		cancel()
	}
}

// expireKilled revokes the leases of processes that were killed.
func (e *Etcd) expireKilled() {
	for _, id := range e.server.leases() {
		if p := e.fleet.user(id); p != nil && e.fleet.find(p.name) != p {
			e.server.revoke(id)
		}
	}
}

// abandon closes everything.
func (e *Etcd) abandon() {
	e.closeSessions()
	e.fleet.each((*Process).end)
	e.server.close()
}
