// Package sweeper deletes keys that an unanswered request may have left.
//
// A write that got no answer may take effect later, when no caller wants it any more. Its key would
// block all other sessions for as long as this session lives. Such a key is uncertain. The sweeper
// deletes it again and again until no such write can come any more.
//
//	suspected ──▶ watched ──▶ forgotten
//
// A key is suspected for LateEffect after the last doubt about it. It is swept soon, and then after
// pauses that double, so that a late write does not stand for longer than it took to come. Afterwards
// the key is watched: it is swept a few times more. A key with a slot in use is left alone, because
// the owner of the slot has taken over the entry there. It is swept when the owner drops the slot.
package sweeper

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/names"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/roster"
	"github.com/etcdlock/etcdlock/internal/wire"
)

const (
	// LateEffect is how long a request that was not answered can still be applied:
	// etcd's own bound for a proposal is 5 s plus two election timeouts.
	LateEffect = 10 * time.Second
	// Soon is the first pause for a request that was cut off with its caller: mostly it has
	// arrived by then.
	Soon = 5 * time.Millisecond
	// First is the first pause between two sweeps of a suspected key.
	First = 50 * time.Millisecond
	// urgent is the longest pause while an entry of this session waits behind the key.
	urgent = 250 * time.Millisecond
	// pace is the shortest pause between two batches, so that keys which are due at nearly
	// the same time are read together.
	pace = 10 * time.Millisecond
	// Many is any number of unanswered requests above one.
	Many = 2
)

// LateSweeps are the sweeps of a watched key, counted from the last doubt: a request may lie in
// a connection that hangs, while the lease is renewed by another one.
var LateSweeps = []time.Duration{20 * time.Second, 50 * time.Second, 110 * time.Second}

// Config is what a sweeper is made with.
type Config struct {
	Life  context.Context // ends with the session
	Names *names.Table    // of the session; a suspected key is a use of its name
	// Sweep deletes keys; see queue.Queues.Sweep.
	Sweep func(context.Context, []queue.Swept) error
	// Settled is called, without a mutex, when a key is no longer suspected.
	Settled func()
	// Suspected is called with each key that becomes uncertain. It is called with a mutex held, and
	// does not block. It may be nil.
	Suspected func(name, key string)
}

// Sweeper has the uncertain keys of a session. Its mutex may be taken while that of a manager is held,
// and that of names.Table is taken while it is held.
type Sweeper struct {
	cfg   Config
	tasks sync.WaitGroup

	mu     sync.Mutex
	closed bool
	leases map[clientv3.LeaseID]*leased // the leases with uncertain keys
}

// leased has the uncertain keys of one lease. One goroutine sweeps them, while one is due at any time.
type leased struct {
	*Sweeper
	lease *lease.Lease

	// Guarded by Sweeper.mu.
	keys    map[string]*doubt
	all     roster.List[*doubt]
	due     dueKeys
	over    bool // true: the lease has ended, and the keys have gone with it
	running bool
	wake    chan struct{} // holds one; another key is the first one due
}

// doubt is what is known of an uncertain key. It is guarded by Sweeper.mu.
type doubt struct {
	key      string
	name     string
	slot     *wire.Slot    // nil for a key beside the queue, which no other call uses
	at       time.Time     // of the last doubt
	requests int           // unanswered ones that may still write it
	together []*doubt      // of the keys of its transaction, if these are several
	watched  bool          // nothing is left to come, unless a connection hangs
	pause    time.Duration // before the next sweep while suspected, and after a sweep that failed
	urgent   int           // entries of this session that wait behind it
	sweeping bool          // a request about it is under way, and the sweeper holds its slot
	due      time.Time
	index    int // in the heap; parked if it is not there
	member   int // in leased.all
}

// Index is that in leased.all.
func (d *doubt) Index() *int { return &d.member }

// New returns a sweeper without uncertain keys.
func New(cfg Config) *Sweeper {
	return &Sweeper{cfg: cfg, leases: make(map[clientv3.LeaseID]*leased)}
}

// Suspect makes the key of a slot uncertain from now on. requests is how many unanswered requests may
// still write it, and first is the pause before its first sweep.
//
// A caller does not look for such a key itself: another call of the session may use the slot next, and
// wait for that very key or go on with it.
func (s *Sweeper) Suspect(ls *lease.Lease, name string, slot wire.Slot, requests int, first time.Duration) {
	s.SuspectAll(ls, []string{name}, []wire.Slot{slot}, requests, first)
}

// SuspectAll is Suspect for the keys of one transaction, a slot under each name. Once one of them was
// found, the others are due.
func (s *Sweeper) SuspectAll(ls *lease.Lease, names []string, slots []wire.Slot, requests int, first time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*doubt
	for i, slot := range slots {
		if d := s.suspect(ls, wire.SlotKey(names[i], ls.ID(), slot), names[i], &slot, requests, first); d != nil {
			all = append(all, d)
		}
	}
	if len(all) > 1 {
		for _, d := range all {
			d.together = all
		}
	}
}

// SuspectBeside is Suspect for a key beside a queue.
func (s *Sweeper) SuspectBeside(ls *lease.Lease, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.suspect(ls, key, key, nil, Many, First)
}

// suspect makes a key uncertain. It returns nil if the key goes with its lease. Called with s.mu held.
func (s *Sweeper) suspect(ls *lease.Lease, key, name string, slot *wire.Slot, requests int, first time.Duration) *doubt {
	if s.closed || ls.Context().Err() != nil {
		return nil
	}
	l := s.leases[ls.ID()]
	if l == nil {
		l = &leased{Sweeper: s, lease: ls, keys: make(map[string]*doubt), wake: make(chan struct{}, 1)}
		s.leases[ls.ID()] = l
	}
	d := l.keys[key]
	switch {
	case d == nil:
		d = &doubt{key: key, name: name, slot: slot, index: parked}
		l.keys[key] = d
		l.all.Add(d)
		s.cfg.Names.Use([]string{name}, 1)
		if s.cfg.Suspected != nil {
			s.cfg.Suspected(name, key)
		}
	case d.watched:
		s.cfg.Names.Use([]string{name}, 1)
	}
	d.at, d.watched, d.pause = time.Now(), false, First
	d.requests = min(d.requests+requests, Many)
	l.schedule(d, first)
	return d
}

// find returns what is known of the key of a slot, if it is uncertain. Called with s.mu held.
func (s *Sweeper) find(id clientv3.LeaseID, name string, slot wire.Slot) (*leased, *doubt) {
	l := s.leases[id]
	if l == nil {
		return nil, nil
	}
	return l, l.keys[wire.SlotKey(name, id, slot)]
}

// Found tells that the key of a slot stands, as a call of the session has found. If a transaction wrote
// it, that has written its other keys too, and they are due.
func (s *Sweeper) Found(ls *lease.Lease, name string, slot wire.Slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l, d := s.find(ls.ID(), name, slot); d != nil {
		l.hasten(d)
	}
}

// Uncertain reports whether a request may still write the key of a slot, or may have written it.
func (s *Sweeper) Uncertain(ls *lease.Lease, name string, slot wire.Slot) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, d := s.find(ls.ID(), name, slot)
	return d != nil
}

// Urge has a suspected key swept often while an entry of this session waits behind it: a candidate
// has left the key for another one, and a late write would stand ahead of it. calm ends that.
func (s *Sweeper) Urge(ls *lease.Lease, name string, slot wire.Slot) (calm func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, d := s.find(ls.ID(), name, slot)
	if d == nil || d.watched {
		return func() {}
	}
	d.urgent++
	if d.index != parked && time.Until(d.due) > urgent {
		l.schedule(d, urgent)
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		d.urgent--
	}
}

// Dropped tells that a slot has no owner any more. If its key is uncertain, it is due now.
func (s *Sweeper) Dropped(name string, slot wire.Slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.leases { // one, or two while a lease is being replaced
		if l, d := s.find(id, name, slot); d != nil && d.index == parked && !d.sweeping {
			d.pause = First
			l.schedule(d, First)
		}
	}
}

// LeaseEnded forgets the keys of a lease that has ended. They go with the lease.
func (s *Sweeper) LeaseEnded(id clientv3.LeaseID) {
	s.mu.Lock()
	l := s.leases[id]
	delete(s.leases, id)
	if l != nil {
		l.over = true
	}
	s.mu.Unlock()
	if l == nil {
		return
	}
	for _, d := range l.keys { // no other goroutine uses them any more
		if !d.watched {
			s.cfg.Names.Use([]string{d.name}, -1)
		}
	}
}

// Unsettled returns how many suspected keys are not in use.
func (s *Sweeper) Unsettled() (n int) {
	s.mu.Lock()
	all := make([]*leased, 0, 1)
	for _, l := range s.leases {
		all = append(all, l)
	}
	s.mu.Unlock()
	for _, l := range all {
		l.all.Walk(&s.mu, func(d *doubt) {
			if !l.over && !d.watched && (d.sweeping || d.slot == nil || !s.cfg.Names.Busy(d.name, *d.slot)) {
				n++
			}
		})
	}
	return n
}

// Len returns how many keys are uncertain.
func (s *Sweeper) Len() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.leases {
		n += len(l.keys)
	}
	return n
}

// Counts is what a sweeper has in one instant.
type Counts struct {
	Uncertain int  // keys that are not forgotten
	Suspected int  // those of them that a request may still write
	Running   bool // true: a goroutine runs
}

// Counts returns what the sweeper has now. Tests look at it.
func (s *Sweeper) Counts() (c Counts) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.leases {
		c.Running = c.Running || l.running
		for _, d := range l.keys {
			c.Uncertain++
			if !d.watched {
				c.Suspected++
			}
		}
	}
	return c
}

// Close lets no sweep begin from now on.
func (s *Sweeper) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// Wait blocks until every goroutine of a closed sweeper has ended, which they do when the session ends.
func (s *Sweeper) Wait() { s.tasks.Wait() }
