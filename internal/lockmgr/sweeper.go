package lockmgr

import (
	"container/heap"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/answer"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// A write that got no answer may take effect later, when no caller wants it any more. Its key would
// block all other sessions for as long as this session lives. Such a key is uncertain. The sweeper
// of the manager deletes it again and again until no such write can come any more. It is one
// goroutine for all keys, which runs only while one is due.
//
//	suspected ──▶ watched ──▶ forgotten
//
// A key is suspected for LateEffect after the last doubt about it. It is swept soon, and then after
// pauses that double, so that a late write does not stand for longer than it took to come.
// Afterwards the key is watched: it is swept a few times more. A key whose slot is in use is left
// alone, because the owner of the slot has taken over the entry there. It is swept when the owner
// drops the slot.

const (
	// LateEffect is how long a request that was not answered can still be applied:
	// etcd's own bound for a proposal is 5 s plus two election timeouts.
	LateEffect = 10 * time.Second
	// soonSweep is the first pause for a request that was cut off with its caller: mostly it has
	// arrived by then.
	soonSweep = 5 * time.Millisecond
	// firstSweep is the first pause between two sweeps of a suspected key.
	firstSweep = 50 * time.Millisecond
	// urgentSweep is the longest pause while an entry of this session waits behind the key.
	urgentSweep = 250 * time.Millisecond
	// sweepPace is the shortest pause between two batches, so that keys which are due at nearly
	// the same time are read together.
	sweepPace = 10 * time.Millisecond
	// manyRequests is any number of unanswered requests above one.
	manyRequests = 2
)

// LateSweeps are the sweeps of a watched key, counted from the last doubt: a request may lie in
// a connection that hangs, while the lease is renewed by another one.
var LateSweeps = []time.Duration{20 * time.Second, 50 * time.Second, 110 * time.Second}

// uncertainKey is a key that may stand in etcd without an owner in this process.
type uncertainKey struct {
	key   string
	lease clientv3.LeaseID
}

// doubt is what is known of an uncertain key. It is guarded by Manager.mu.
type doubt struct {
	uncertainKey
	under *lease.Lease
	name  string
	slot  *wire.Slot // nil for a key beside the queue, which no other call uses

	at       time.Time     // of the last doubt
	requests int           // unanswered ones that may still write it
	watched  bool          // nothing is left to come, unless a connection hangs
	pause    time.Duration // before the next sweep while suspected, and after a sweep that failed
	urgent   int           // entries of this session that wait behind it
	sweeping bool          // a request about it is under way, and the sweeper holds its slot
	due      time.Time
	index    int // in the heap; parked if it is not there
}

const parked = -1

// sweeper has the uncertain keys of a session. It is guarded by Manager.mu.
type sweeper struct {
	keys    map[uncertainKey]*doubt
	due     dueKeys
	running bool
	wake    chan struct{} // holds one; another key is the first one due
	swept   chan struct{} // closed and replaced when a batch is through
}

func newSweeper() sweeper {
	return sweeper{keys: make(map[uncertainKey]*doubt), wake: make(chan struct{}, 1), swept: make(chan struct{})}
}

// suspect has the sweeper look for the key of a slot, or the keys of a local queue for several
// names. requests is how many unanswered requests may still write it.
//
// The local queue's goroutine does not look for the key itself: another caller may join the local
// queue and wait for that very key, or a hold may leave the local queue and go on with the key.
func (l *localQueue) suspect(ls *lease.Lease, slot wire.Slot, requests int, first time.Duration) {
	m := l.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	slots := []wire.Slot{slot}
	if l.single == nil {
		slots = l.slots
	}
	for i, name := range l.names {
		m.doubt(ls, wire.SlotKey(name, ls.ID(), slots[i]), name, &slots[i], requests, first)
	}
}

// doubt makes a key uncertain from now on. first is the pause before its first sweep. Called with
// m.mu held.
func (m *Manager) doubt(ls *lease.Lease, key, name string, slot *wire.Slot, requests int, first time.Duration) {
	if m.admission == closed || ls.Context().Err() != nil {
		return // with the lease it goes
	}
	k := uncertainKey{key, ls.ID()}
	d := m.sweeper.keys[k]
	switch {
	case d == nil:
		d = &doubt{uncertainKey: k, under: ls, name: name, index: parked}
		if slot != nil {
			own := *slot
			d.slot = &own
		}
		m.sweeper.keys[k] = d
		m.use([]string{name}, 1)
	case d.watched:
		m.use([]string{name}, 1)
	}
	d.at, d.watched, d.pause = time.Now(), false, firstSweep
	d.requests = min(d.requests+requests, manyRequests)
	m.schedule(d, first)
}

// certain tells whether an entry that was found proves that the one unanswered request has taken
// effect, so that it cannot do so later. It does if no earlier request can have written the entry.
func (l *localQueue) certain(ls *lease.Lease, slot wire.Slot, e *queue.Entry) bool {
	if e == nil || !e.Adopted() {
		return false
	}
	m := l.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sweeper.keys[uncertainKey{wire.SlotKey(l.name, ls.ID(), slot), ls.ID()}] == nil
}

// urge has a suspected key swept often while an entry of this session waits behind it: a candidate
// has left the key for another one, and a late write would stand ahead of it. calm ends that.
func (l *localQueue) urge(ls *lease.Lease, slot wire.Slot) (calm func()) {
	m := l.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.sweeper.keys[uncertainKey{wire.SlotKey(l.name, ls.ID(), slot), ls.ID()}]
	if d == nil || d.watched {
		return func() {}
	}
	d.urgent++
	if d.index != parked && time.Until(d.due) > urgentSweep {
		m.schedule(d, urgentSweep)
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		d.urgent--
	}
}

// schedule has a key swept after a pause. Called with m.mu held.
func (m *Manager) schedule(d *doubt, after time.Duration) {
	w := &m.sweeper
	d.due = time.Now().Add(after)
	if d.index == parked {
		heap.Push(&w.due, d)
	} else {
		heap.Fix(&w.due, d.index)
	}
	switch {
	case m.admission == closed:
	case !w.running:
		w.running = true
		m.tasks.Go(m.sweep)
	case d.index == 0:
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// dropSlot gives up a slot of which nothing is left in etcd, or only an uncertain key, which is due
// now. Called with m.mu held.
func (m *Manager) dropSlot(name string, slot wire.Slot) {
	m.slots.drop(name, slot)
	if len(m.sweeper.keys) == 0 {
		return
	}
	ls := m.lease.Load()
	if ls == nil {
		return // the uncertain keys went with their lease
	}
	id := ls.ID()
	if d := m.sweeper.keys[uncertainKey{wire.SlotKey(name, id, slot), id}]; d != nil && d.index == parked && !d.sweeping {
		d.pause = firstSweep
		m.schedule(d, firstSweep)
	}
}

// forget ends the doubts about a key. Called with m.mu held.
func (m *Manager) forget(d *doubt) {
	if d.index != parked {
		heap.Remove(&m.sweeper.due, d.index)
	}
	m.settled(d)
	delete(m.sweeper.keys, d.uncertainKey)
}

// settled notes that no write of a key can come any more. Called with m.mu held.
func (m *Manager) settled(d *doubt) {
	if !d.watched {
		d.watched = true
		m.use([]string{d.name}, -1)
		m.wakeDrain()
	}
}

// forgetAll ends the doubts about all keys of a lease that has ended. They go with the lease.
// Called with m.mu held.
func (m *Manager) forgetAll(id clientv3.LeaseID) {
	for k, d := range m.sweeper.keys {
		if k.lease == id && !d.sweeping {
			m.forget(d)
		}
	}
}

// underSweep returns a channel that is closed when the sweeper is through with the key of a slot;
// nil if no request about it is under way. Called with m.mu held.
func (m *Manager) underSweep(ls *lease.Lease, name string, slot wire.Slot) <-chan struct{} {
	if d := m.sweeper.keys[uncertainKey{wire.SlotKey(name, ls.ID(), slot), ls.ID()}]; d != nil && d.sweeping {
		return m.sweeper.swept
	}
	return nil
}

// unsettled is how many suspected keys are not in use. Called with m.mu held.
func (m *Manager) unsettled() (n int) {
	for _, d := range m.sweeper.keys {
		if !d.watched && (d.sweeping || d.slot == nil || !m.slots.busy(d.name, *d.slot)) {
			n++
		}
	}
	return n
}

// sweep is the goroutine of the sweeper. It ends when no key is due at any time, or the session
// has ended.
func (m *Manager) sweep() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last time.Time // when a batch was sent
	for {
		m.mu.Lock()
		w := &m.sweeper
		if len(w.due) == 0 || m.admission == closed {
			w.running = false
			m.mu.Unlock()
			return
		}
		wait := max(time.Until(w.due[0].due), time.Until(last.Add(sweepPace)))
		var batch []*doubt
		if wait <= 0 {
			batch = m.takeDue()
		}
		m.mu.Unlock()
		if len(batch) > 0 {
			last = time.Now()
			m.sweepBatch(batch)
			if len(batch) == queue.MostSwept {
				last = time.Time{}
			}
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-w.wake:
		case <-m.cfg.Life.Done():
		}
	}
}

// takeDue takes the keys that are due, with their slots, and no two of one name. Called with m.mu
// held.
func (m *Manager) takeDue() (batch []*doubt) {
	w, now := &m.sweeper, time.Now()
	var again []*doubt
	names := make(map[string]bool)
	for len(w.due) > 0 && len(batch) < queue.MostSwept && !w.due[0].due.After(now) {
		d := heap.Pop(&w.due).(*doubt)
		switch {
		case d.under.Context().Err() != nil:
			m.forget(d)
		case d.slot != nil && m.slots.busy(d.name, *d.slot):
			// Until dropSlot.
		case names[d.name]:
			again = append(again, d)
		default:
			names[d.name], d.sweeping = true, true
			if d.slot != nil {
				m.slots.hold(d.name, *d.slot)
			}
			batch = append(batch, d)
		}
	}
	for _, d := range again {
		heap.Push(&w.due, d)
	}
	return batch
}

// sweepBatch deletes what stands under some keys.
func (m *Manager) sweepBatch(batch []*doubt) {
	began := time.Now()
	keys := make([]queue.Swept, len(batch))
	for i, d := range batch {
		keys[i] = queue.Swept{Name: d.name, Key: d.key}
	}
	err := m.cfg.Queues.Sweep(m.cfg.Life, keys)
	if err != nil && answer.Final(err) && len(batch) > 1 {
		// Because of one of them, as for want of permission, and etcd does not say which.
		for i := range keys {
			keys[i].Err = m.cfg.Queues.Sweep(m.cfg.Life, keys[i:i+1])
		}
	} else {
		for i := range keys {
			keys[i].Err = err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, d := range batch {
		m.wasSwept(d, &keys[i], began)
	}
	close(m.sweeper.swept)
	m.sweeper.swept = make(chan struct{})
}

// wasSwept notes the result of a sweep, and when it began. Called with m.mu held.
func (m *Manager) wasSwept(d *doubt, of *queue.Swept, began time.Time) {
	d.sweeping = false
	if d.slot != nil {
		m.slots.drop(d.name, *d.slot)
	}
	until := d.at.Add(LateEffect)
	switch {
	case d.under.Context().Err() != nil, of.Err == nil && of.Deleted && d.requests == 1 && !d.at.After(began):
		m.forget(d) // with its lease; or what was to come has come
		return
	case of.Err == nil && !began.Before(until):
		m.settled(d)
	}
	if d.index != parked {
		return // another doubt came meanwhile
	}
	next := d.pause
	switch now := time.Now(); {
	case d.watched && of.Err == nil:
		next = 0
		for _, late := range LateSweeps {
			if at := d.at.Add(late); next == 0 && at.After(now) {
				next = at.Sub(now)
			}
		}
		if next == 0 {
			m.forget(d)
			return
		}
	case now.Before(until):
		next = min(next, until.Sub(now))
	}
	d.pause = min(2*d.pause, LateEffect)
	if d.urgent > 0 && !d.watched {
		next = min(next, urgentSweep)
	}
	m.schedule(d, next)
}
