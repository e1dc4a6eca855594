package mixin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/etcdlocktest"
	"github.com/etcdlock/etcdlock/fence"
	"github.com/etcdlock/etcdlock/internal/inspect/exporter"
	"github.com/etcdlock/etcdlock/mixin/internal/promdb"
	promlock "github.com/etcdlock/etcdlock/prometheus"
)

// scrapes is how often the processes of a fleet are scraped, and rules are evaluated.
const scrapes = 15 * time.Second

// fleet is three processes of a service in virtual time, which lock and have a leader. All of them are
// scraped.
type fleet struct {
	t     *testing.T
	etcd  *etcdlocktest.Etcd
	db    *promdb.DB
	store *fence.Memory

	pause     atomic.Int64 // the longest time between two locks of a goroutine, in nanoseconds
	term      atomic.Int64 // how long the work of a leader takes, in nanoseconds; 0 is without end
	unhealthy atomic.Bool  // true: no process may lead
	stubborn  atomic.Int64 // for how long the work goes on after its context, in nanoseconds

	exporter *exporter.Exporter
	observe  func(s *service) []*etcdlock.Trace // returns further traces of a process; nil: none

	mu       sync.Mutex // guards the field below
	services map[string]*service
}

// service is one process.
type service struct {
	fleet    *fleet
	process  *etcdlocktest.Process
	session  *etcdlock.Session
	metrics  *promlock.Metrics
	registry *prometheus.Registry
	fence    fence.Checker
	stop     context.CancelFunc
	all      sync.WaitGroup
}

// run plays a script beside a fleet, and returns what was scraped. The fleet runs when script is called.
func run(t *testing.T, script func(f *fleet), change ...func(f *fleet)) *promdb.DB {
	db := promdb.New()
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		f := &fleet{t: t, etcd: etcd, db: db, store: fence.NewMemory(), services: make(map[string]*service)}
		f.pause.Store(int64(10 * time.Second))
		for _, c := range change {
			c(f)
		}
		outside := etcd.Process("exporter").Session()
		f.exporter = &exporter.Exporter{
			Client: etcd.Process("exporter").Client(), Patience: 10 * time.Second,
			Elections: []string{"scheduler"}, Prefixes: []string{"orders/", "config", "report", "jobs/"}, MaxNames: 20,
		}
		f.exporter.Deadlocks = func(ctx context.Context, prefix string) ([]string, error) {
			found, err := outside.Deadlocks(ctx, prefix)
			return make([]string, len(found)), err
		}
		ctx, stop := context.WithCancel(t.Context())
		for _, name := range []string{"a", "b", "c"} {
			f.start(name, etcd)
		}
		var scraper sync.WaitGroup
		scraper.Go(func() {
			for ctx.Err() == nil {
				f.scrape()
				sleep(ctx, scrapes)
			}
		})
		script(f)
		stop()
		scraper.Wait()
		for _, s := range f.services {
			s.end()
		}
		require.NoError(t, outside.Close(t.Context()))
	})
	return db
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// start starts a process, which may be another one of the same name.
func (f *fleet) start(name string, etcd *etcdlocktest.Etcd) *service {
	ctx, stop := context.WithCancel(f.t.Context())
	s := &service{fleet: f, process: etcd.Process(name), metrics: promlock.New(), registry: prometheus.NewRegistry(), stop: stop}
	s.registry.MustRegister(s.metrics)
	s.fence = s.metrics.Fence("billing-db", f.store)
	var more []*etcdlock.Trace
	if f.observe != nil {
		more = f.observe(s)
	}
	var err error
	s.session, err = etcdlock.NewSession(ctx, s.process.Client(), etcdlock.WithOwner(name),
		etcdlock.WithTrace(s.metrics.Trace()), etcdlock.WithTrace(more...))
	require.NoError(f.t, err)
	s.metrics.Watch(s.session)
	f.mu.Lock()
	f.services[name] = s
	f.mu.Unlock()
	s.all.Go(func() { s.lead(ctx) })
	for i := range 3 {
		s.all.Go(func() { s.lock(ctx, rand.New(rand.NewPCG(uint64(name[0]), uint64(i)))) })
	}
	return s
}

func (f *fleet) service(name string) *service {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.services[name]
}

// end ends a process as SIGTERM does.
func (s *service) end() {
	s.stop()
	s.all.Wait()
	if err := s.session.Close(context.WithoutCancel(s.fleet.t.Context())); err != nil {
		s.fleet.t.Log(err)
	}
}

// remove ends a process.
func (f *fleet) remove(name string, end func(*service)) {
	s := f.service(name)
	f.mu.Lock()
	delete(f.services, name)
	f.mu.Unlock()
	f.db.Scrape(time.Now(), promdb.Target{Job: "billing", Instance: name}, nil)
	end(s)
}

// restart ends a process, and starts another one of its name after a while.
func (f *fleet) restart(name string, end func(*service), after time.Duration) {
	f.remove(name, end)
	time.Sleep(after)
	f.start(name, f.etcd)
}

// kill ends a process as SIGKILL does.
func (s *service) kill() {
	s.process.Kill()
	s.end()
}

func (f *fleet) scrape() {
	f.mu.Lock()
	services := maps.Clone(f.services) // no mutex is held across a request, or virtual time stands still
	f.mu.Unlock()
	for name, s := range services {
		families, err := s.registry.Gather()
		require.NoError(f.t, err)
		f.db.Scrape(time.Now(), promdb.Target{Job: "billing", Instance: name}, families)
	}
	w := httptest.NewRecorder()
	f.exporter.ServeHTTP(w, httptest.NewRequestWithContext(f.t.Context(), http.MethodGet, "/metrics", http.NoBody))
	require.NoError(f.t, f.db.Text(time.Now(), promdb.Target{Job: "etcdlock-exporter", Instance: "exporter"}, w.Body.Bytes()))
}

// lead has the service lead until ctx ends.
func (s *service) lead(ctx context.Context) {
	work := func(ctx context.Context, _ *etcdlock.Term) error {
		for began := time.Now(); ctx.Err() == nil; sleep(ctx, time.Second) {
			if d := s.fleet.term.Load(); d > 0 && time.Since(began) > time.Duration(d) {
				return nil
			}
		}
		time.Sleep(time.Duration(s.fleet.stubborn.Swap(0)))
		return nil
	}
	health := etcdlock.HealthCheck{Interval: time.Second, Failures: 2, Check: func(context.Context) error {
		if s.fleet.unhealthy.Load() {
			return errors.New("the database does not answer")
		}
		return nil
	}}
	for ctx.Err() == nil && s.session.Err() == nil {
		_ = etcdlock.NewElection(s.session, "scheduler").Run(ctx, s.process.Name(), work,
			etcdlock.WithStopTimeout(10*time.Second), etcdlock.WithHealthCheck(health))
	}
}

// held is a hold of any lock.
type held interface {
	etcdlock.Held
	Unlock(ctx context.Context) error
}

// acquire takes one of the locks in use.
func (s *service) acquire(ctx context.Context, n int) (held, error) {
	switch n {
	case 0:
		return etcdlock.NewRWMutex(s.session, "config").Lock(ctx)
	case 1, 2, 3:
		return etcdlock.NewRWMutex(s.session, "config").RLock(ctx)
	default:
		return etcdlock.NewMutex(s.session, fmt.Sprintf("orders/%d", n)).Lock(ctx)
	}
}

// lock holds a lock now and then, for as long as a request takes.
func (s *service) lock(ctx context.Context, random *rand.Rand) {
	for ctx.Err() == nil {
		sleep(ctx, time.Duration(random.Int64N(s.fleet.pause.Load())))
		hold, err := s.acquire(ctx, random.IntN(8))
		if err != nil {
			continue
		}
		_ = s.fence.Check(ctx, fmt.Sprint("row/", hold.Token()), fence.Of(hold, 0)) // of its own, so it is not stale
		sleep(ctx, time.Duration(random.Int64N(int64(time.Second))))
		_ = hold.Unlock(context.WithoutCancel(ctx))
	}
}
