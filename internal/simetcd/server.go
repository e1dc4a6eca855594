package simetcd

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/etcdlock/etcdlock/internal/backoff"
)

func init() { backoff.Process = 1 } // else a seed would mean another run in each process

// The bounds of the latency of each direction, unless Config says otherwise.
const (
	DefaultMinLatency = 500 * time.Microsecond
	DefaultMaxLatency = 1500 * time.Microsecond
)

// A Config says how a server behaves. The zero value is usable.
type Config struct {
	// Seed is where latencies and lease IDs come from.
	Seed uint64
	// MinLatency and MaxLatency bound the latency of each direction of each link. Both zero are the defaults.
	// Up to 1µs is added, so that no two messages arrive at one instant.
	MinLatency, MaxLatency time.Duration
	// MinTTL is the shortest TTL of a lease; a shorter one is raised to it. It counts in whole seconds; 1s when zero.
	MinTTL time.Duration
	// UnsyncedTick is the period at which watches from a past revision get their first events: etcd's 100ms when zero,
	// at once when negative.
	UnsyncedTick time.Duration
	// ProgressInterval is the period of progress notifications for watches that want them: etcd's 10 minutes when zero.
	ProgressInterval time.Duration
	// MaxTxnOps is how many operations a transaction may have: etcd's 128 when zero.
	MaxTxnOps int
	// Reproducible makes a run repeatable from its seed also where the program sends several requests at one instant: see
	// the package's documentation.
	Reproducible bool
	// WallClock is set by a test that does not run in a bubble. Close then returns at once.
	WallClock bool
	// Logger is given to the clients; nil logs nothing.
	Logger *zap.Logger
}

func (cfg Config) withDefaults() Config {
	if cfg.MinLatency == 0 && cfg.MaxLatency == 0 {
		cfg.MinLatency, cfg.MaxLatency = DefaultMinLatency, DefaultMaxLatency
	}
	if cfg.MaxTxnOps == 0 {
		cfg.MaxTxnOps = maxTxnOps
	}
	if cfg.MinTTL == 0 {
		cfg.MinTTL = time.Second
	}
	if cfg.UnsyncedTick == 0 {
		cfg.UnsyncedTick = 100 * time.Millisecond
	}
	if cfg.ProgressInterval == 0 {
		cfg.ProgressInterval = 10 * time.Minute
	}
	return cfg
}

// A Server is a whole etcd cluster that looks like one member. Its methods are events on the server's side, and reads of
// the store without latency. They act at once and may be called from anywhere in the bubble, including the hooks.
type Server struct {
	cfg Config

	// mu guards everything below, the links and the streams too. No goroutine blocks while holding it: for synctest a
	// goroutine that waits for a mutex is busy, and virtual time would stand still. After a possible change of the
	// store it is released by unlock.
	mu        sync.Mutex
	sched     *schedule
	store     *store
	lessor    *lessor
	hub       *hub
	member    *member
	uptime    uptime
	observers observers
	links     []*link           // in order of creation
	hook      func(Call) Action // of Intercept; nil for none
	closed    bool
}

// New starts a server. Call it inside the bubble, and Close before the bubble's root returns.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg.withDefaults(), store: newStore()}
	s.sched = newSchedule(s.work)
	s.member = newMember(s.store)
	s.lessor = newLessor(s.sched, s.cfg.Seed)
	s.lessor.minTTL = wholeSeconds(s.cfg.MinTTL)
	s.lessor.expire = s.revoke
	s.store.attached = s.lessor.attached
	s.hub = newHub(s.cfg, s.sched, s.store, s.member)
	return s
}

func wholeSeconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// Close closes all clients and ends everything that the server runs. Nothing may be asked of either afterwards.
//
// It lets 300ms of virtual time pass: clientv3 leaves goroutines behind that wait up to 250ms for a reader of the last
// event of a watch, and they must have ended when the bubble ends.
func (s *Server) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	links := append([]*link(nil), s.links...)
	s.mu.Unlock()
	for _, l := range links {
		_ = l.client.Close() // it never fails
	}
	s.mu.Lock()
	s.closed = true
	s.sched.stop()
	s.mu.Unlock()
	if !s.cfg.WallClock {
		time.Sleep(300 * time.Millisecond)
	}
}

// Intercept makes hook decide on every request from now on, and returns the hook before it (nil if there was none), so
// that hooks can be chained. A nil hook lets everything pass.
//
// The hook runs in the goroutine of the request, before the request is sent, and under no lock: it may call any method
// of the server and its clients, a cut for example, which then already acts on the request. Several hooks can run at
// the same time.
func (s *Server) Intercept(hook func(Call) Action) func(Call) Action {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.hook
	s.hook = hook
	return old
}

// Events returns how many events have happened: what a run costs.
func (s *Server) Events() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sched.done
}

// work does what is due; the schedule's timer calls it.
func (s *Server) work() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	for ev := s.sched.due(); ev != nil; ev = s.sched.due() {
		ev.run()
	}
	s.sched.rang()
	s.unlock()
}

// unlock releases mu and reports the changes to the observers.
func (s *Server) unlock() { s.observers.tell(&s.mu) }

// begin starts a write transaction, which commit ends.
func (s *Server) begin() txn { return txn{writing: &writing{st: s.store}, leases: s.lessor} }

func (s *Server) commit(t txn) {
	s.hub.hide(t.changes)
	t.end()
	if len(t.changes) == 0 {
		return
	}
	s.hub.notify(t.changes)
	s.observers.note(t.changes)
}

// revoke ends a lease and deletes its keys, in one revision.
func (s *Server) revoke(id int64) {
	l := s.lessor.get(id)
	if l == nil {
		return
	}
	t := s.begin()
	for _, key := range l.sortedKeys() {
		t.writing.deleteRange([]byte(key), nil)
	}
	s.lessor.remove(l)
	s.commit(t)
}
