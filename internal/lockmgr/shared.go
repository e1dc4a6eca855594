package lockmgr

import (
	"github.com/etcdlock/etcdlock/internal/lazyctx"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/roster"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// An ownership that does not exclude all others, as that of readers or of permits, leaves its local
// queue as soon as it is granted. The local queue goes on with the next waiter.

// beside are the ownerships of a manager that have left their local queues. Manager.mu guards them.
type beside struct {
	all     roster.List[*ownership]
	readers map[string]*ownership // by name: the one that further readers may share
}

func (s *beside) add(t *ownership) {
	t.beside = true
	s.all.Add(t, &t.member)
}

func (s *beside) remove(t *ownership) {
	t.beside = false
	s.all.Remove(t.member)
	s.readNoMore(t)
}

// read lets further readers share an ownership.
func (s *beside) read(t *ownership) { s.readers[t.local.name] = t }

// readNoMore lets no further readers share an ownership.
func (s *beside) readNoMore(t *ownership) {
	if s.readers[t.local.name] == t {
		delete(s.readers, t.local.name)
	}
}

// goBeside takes an ownership out of its local queue. Called with Manager.mu held.
func (t *ownership) goBeside() {
	l := t.local
	m := l.manager
	t.queue = m.cfg.Queues.Queue(l.name) // the queue of the local queue has a range cache, and is for the worker
	m.beside.add(t)
	m.names.Use(l.names, 1)
	if t.mode == wire.Shared {
		t.asked = m.cfg.Clock()
		m.beside.read(t)
	}
	m.settle.Set(&t.young, t)
}

// forgetBeside forgets an ownership beside its local queue. Called with Manager.mu held.
func (t *ownership) forgetBeside() {
	l := t.local
	m := l.manager
	m.noteLoss(t)
	m.beside.remove(t)
	m.names.Use(l.names, -1)
	m.dropSlot(l.name, t.slot)
	m.wakeDrain()
}

// detached takes an ownership out of its local queue if it is that of a writer that has become a
// reader. Called by the worker, with Manager.mu held.
func (t *ownership) detached() bool {
	l := t.local
	if t.detach == nil {
		return false
	}
	close(t.detach)
	t.detach = nil
	if !t.open() {
		return false
	}
	t.become(held)
	t.young.Stop()
	t.guard.Stop()
	t.guard, t.left = nil, lazyctx.Latch{}
	l.disown(t)
	l.leaveSlots()
	t.goBeside()
	return true
}

// share gives w a hold beside the other readers, without a request. It does so for a time slice
// from when no writer was known to wait. Called with Manager.mu held.
func (t *ownership) share(w *waiter) (*Hold, bool) {
	if !t.shareable() || t.local.manager.cfg.Clock()-t.asked >= w.Terms.Slice {
		return nil, false
	}
	return t.newHolder(w, PathLocal), true
}

// shareable tells whether further readers can be admitted, as far as the session knows. Called with
// Manager.mu held.
func (t *ownership) shareable() bool {
	return t.open() && t.mode == wire.Shared && t.state == held
}

// grantReaders admits all readers at the front of a local queue. Called with Manager.mu held.
func (t *ownership) grantReaders(l *localQueue) {
	for w := l.front(); w != nil && w.Mode == wire.Shared; w = l.front() {
		l.tell(w, outcome{hold: t.newHolder(w, PathLocal)})
	}
}

// shareAgain asks etcd whether only readers wait behind the readers of this session. Then the
// readers in the local queue are admitted beside them, and further ones for another time slice. A
// session with many readers therefore has one key, and asks once in a slice. A writer waits for no
// reader that came more than a slice later.
func (l *localQueue) shareAgain(ls *lease.Lease) bool {
	m := l.manager
	m.mu.Lock()
	t, now := m.beside.readers[l.name], m.cfg.Clock()
	share := t.shareable() && t.lease == ls
	m.mu.Unlock()
	if !share {
		return false
	}
	none, err := m.cfg.Queues.Queue(l.name).NoneWaits(ls.Context(), t.entry)
	if err != nil || !none || ls.Err() != nil {
		return false // an entry of its own, and its errors, tell more
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !t.shareable() {
		return false
	}
	t.asked = max(t.asked, now)
	t.grantReaders(l)
	return true
}
