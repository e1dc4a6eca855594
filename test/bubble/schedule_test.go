package bubble

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/history"
	"github.com/etcdlock/etcdlock/test/internal/env"
)

const (
	ttl     = 3 * time.Second
	clients = 3
	workers = 2 // goroutines of one session
	rounds  = 4
)

// names are what is locked; the last one is the election's.
var names = []string{"m", "n/1", "e"}

// TestSchedules runs schedules from seeds: locks and elections through a bad network on
// a real server. What the workers do and what goes wrong is drawn from the seed; but a
// run is not the same each time, as the server and gRPC wake several goroutines at once.
//
// As many are played as fit into some seconds; or
//
//	ETCDLOCK_SCHEDULES=1000 go test -run TestSchedules ./bubble     this many
//	ETCDLOCK_SEED=17 go test -v -run TestSchedules ./bubble         what that one draws
func TestSchedules(t *testing.T) {
	const (
		least    = 25 // also where the race detector slows it down
		patience = 5 * time.Second
	)
	only, count := env.Number(t, "ETCDLOCK_SEED", 0), env.Number(t, "ETCDLOCK_SCHEDULES", 0)
	began := time.Now()
	more := func(played uint64) bool {
		switch {
		case only > 0:
			return played < 1
		case count > 0:
			return played < count
		default:
			return played < least || time.Since(began) < patience
		}
	}
	var sum tally
	played := uint64(0)
	for ; more(played); played++ {
		seed := max(only, played+1)
		s := play(t, seed)
		sum.add(&s.tally)
		if only > 0 {
			t.Log(s.transcript(len(s.lines)))
		}
		if len(s.violations) > 0 {
			t.Fatalf("schedule %d: %s\n%s\nthe same draws again: ETCDLOCK_SEED=%d go test -v -count 1 -run TestSchedules ./bubble",
				seed, strings.Join(s.violations, "\n"), s.transcript(150), seed)
		}
	}
	t.Logf("figure: %d schedules in %v: %d grants, %d holds lost, %d operations checked against a model, %d faults",
		played, time.Since(began).Round(time.Millisecond), sum.grants, sum.losses, sum.operations, sum.sum())
	for i, f := range faults {
		t.Logf("figure: %5d  %s", sum.faults[i], f.name)
	}
	require.Positive(t, sum.grants)
}

type tally struct {
	grants, losses, operations int
	faults                     [16]int
}

func (t *tally) add(o *tally) {
	t.grants += o.grants
	t.losses += o.losses
	t.operations += o.operations
	for i, n := range o.faults {
		t.faults[i] += n
	}
}

func (t *tally) sum() (n int) {
	for _, m := range t.faults {
		n += m
	}
	return n
}

// schedule is one of them.
type schedule struct {
	*etcd
	ctx      context.Context
	seed     uint64
	rand     *rand.Rand // of the faults
	clients  []*client
	sessions []*etcdlock.Session
	admin    *clientv3.Client
	began    time.Time
	evidence *history.Evidence

	mu         sync.Mutex
	tally      tally
	evicted    map[string]bool // keys, and ends of keys, that an administrator takes away
	lines      []string
	violations []string
}

func play(t *testing.T, seed uint64) *schedule {
	t.Helper()
	s := &schedule{seed: seed, rand: rand.New(rand.NewPCG(seed, 0)), evicted: make(map[string]bool)}
	var ops []history.Op
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		s.ctx, s.began = ctx, time.Now()
		s.evidence = history.NewEvidence(s.now, names...)
		s.etcd = newEtcd(t)
		s.etcd.seen = s.seen
		s.look()
		defer func() { s.stop() }()
		s.admin = s.connect(func(context.Context) (conn, error) { return s.dial() })
		defer s.admin.Close()
		for range clients {
			c := s.client()
			defer c.close()
			session, err := etcdlock.NewSession(ctx, c.Client, etcdlock.WithTTL(ttl))
			require.NoError(t, err)
			s.clients, s.sessions = append(s.clients, c), append(s.sessions, session)
		}
		ops = s.run()
	})
	s.tally.operations = len(ops)
	// Outside, where time passes.
	if err := history.Check(history.Election, ops, s.evidence); err != nil {
		s.violation("%v", err)
	}
	return s
}

// now is the clock of the history.
func (s *schedule) now() int64 { return int64(time.Since(s.began)) }

// seen is what the server tells of its keys, at the instant at which it happens.
func (s *schedule) seen(key string, created, deleted int64) {
	if deleted == 0 {
		s.note("etcd: %s is written", key)
		s.evidence.Put(key, created)
		return
	}
	s.mu.Lock()
	evicted := s.evicted[key] || s.evicted[key[strings.LastIndex(key, "/")+1:]]
	s.mu.Unlock()
	s.note("etcd: %s is gone", key)
	s.evidence.Delete(key, deleted, evicted)
}

func (s *schedule) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, fmt.Sprintf("%13v  ", time.Since(s.began))+fmt.Sprintf(format, args...))
}

func (s *schedule) violation(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.violations = append(s.violations, fmt.Sprintf(format, args...))
}

// transcript is its last lines.
func (s *schedule) transcript(last int) string {
	return strings.Join(s.lines[max(0, len(s.lines)-last):], "\n")
}

// run has the workers work and all go wrong, and then sees whether all is well again.
func (s *schedule) run() (ops []history.Op) {
	var work, trouble sync.WaitGroup
	var records []*history.Recorder
	for i, session := range s.sessions {
		for j := range workers {
			who := fmt.Sprintf("%d.%d", i, j)
			record := history.NewRecorder(who, s.now)
			records = append(records, record)
			w := &worker{schedule: s, who: who, session: session, of: strconv.Itoa(i), record: record,
				rand: rand.New(rand.NewPCG(s.seed, uint64(1+i*workers+j)))}
			work.Go(w.work)
		}
	}
	stop := make(chan struct{})
	trouble.Go(func() { s.disturb(stop) })
	work.Wait()
	close(stop)
	trouble.Wait()
	s.note("all is well from here")
	for _, c := range s.clients {
		c.calm()
	}
	s.aftermath()
	for _, r := range records {
		ops = append(ops, r.Ops()...)
	}
	return ops
}

// aftermath checks that no wait lasts without end once the faults have stopped, and that nothing is
// left when all sessions are closed.
func (s *schedule) aftermath() {
	for i, session := range s.sessions {
		for _, name := range names {
			ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
			l, err := etcdlock.NewMutex(session, name).Lock(ctx)
			for errors.Is(err, etcdlock.ErrLost) { // by what went wrong before
				l, err = etcdlock.NewMutex(session, name).Lock(ctx)
			}
			cancel()
			if err != nil {
				s.violation("client %d cannot lock %q when all is well again: %v", i, name, err)
				continue
			}
			_ = l.Unlock(s.ctx)
		}
	}
	for i, session := range s.sessions {
		ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
		if err := session.Close(ctx); err != nil {
			s.violation("client %d cannot close when all is well again: %v", i, err)
		}
		cancel()
	}
	ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
	defer cancel()
	resp, err := s.admin.Get(ctx, "", clientv3.WithFromKey(), clientv3.WithKeysOnly())
	if err != nil {
		s.violation("etcd does not answer when all is well again: %v", err)
		return
	}
	for _, kv := range resp.Kvs {
		s.violation("left behind: %s", kv.Key)
	}
}

// worker is one goroutine of a process: it locks, tries, campaigns and asks for the leader.
type worker struct {
	*schedule
	who     string
	session *etcdlock.Session
	of      string // the session
	record  *history.Recorder
	rand    *rand.Rand
}

// handle is a hold of one name.
type handle interface {
	etcdlock.Held
	Key() string
	CreateRevision() int64
	Guard() clientv3.Cmp
}

// held is a hold, and its release.
type held struct {
	handle
	release func(context.Context) error
}

func (w *worker) work() {
	r := w.rand
	terms := []etcdlock.MutexOption{
		etcdlock.WithTimeSlice(time.Duration(r.IntN(3)) * ttl),
		etcdlock.WithRetention(time.Duration(r.IntN(3)) * ttl / 2),
	}
	lock := func(call func(*etcdlock.Mutex, context.Context) (*etcdlock.Lock, error)) func(context.Context, string) (held, error) {
		return func(ctx context.Context, name string) (held, error) {
			l, err := call(etcdlock.NewMutex(w.session, name, terms...), ctx)
			if err != nil {
				return held{}, err
			}
			return held{l, l.Unlock}, nil
		}
	}
	election := etcdlock.NewElection(w.session, "e")
	for range rounds {
		w.sleep(ttl / 3)
		ctx, cancel := context.WithTimeout(w.ctx, time.Duration(r.Int64N(int64(4*ttl))))
		name := names[r.IntN(2)*r.IntN(2)] // the first one more often
		switch r.IntN(12) {
		case 0, 1:
			w.claim(ctx, name, lock((*etcdlock.Mutex).TryLock))
		case 2, 3, 4:
			w.claim(ctx, "e", func(ctx context.Context, _ string) (held, error) {
				t, err := election.Campaign(ctx, w.who)
				if err != nil {
					return held{}, err
				}
				return held{t, t.Resign}, nil
			})
		case 5, 6:
			returned := w.record.Reading("e")
			leader, err := election.Leader(ctx)
			if errors.Is(err, etcdlock.ErrNoLeader) {
				err = nil
			}
			returned(err, leader.CreateRevision)
		default:
			w.claim(ctx, name, lock((*etcdlock.Mutex).Lock))
		}
		cancel()
	}
}

// claim acquires, holds for a while, and releases.
func (w *worker) claim(ctx context.Context, name string, acquire func(context.Context, string) (held, error)) {
	asked := w.record.Acquire(name, w.of)
	h, err := acquire(ctx, name)
	if err != nil {
		asked.Returned(err, 0, 0)
		w.note("%s does not get %s: %v", w.who, name, err)
		return
	}
	guard := h.Guard()
	asked.Returned(nil, guard.GetCompare().GetCreateRevision(), h.Token())
	w.note("%s holds %s, token %d", w.who, name, h.Token())
	w.mu.Lock()
	w.tally.grants++
	w.mu.Unlock()

	hold := time.NewTimer(time.Duration(w.rand.Int64N(int64(2 * ttl))))
	defer hold.Stop()
	select {
	case <-h.Done():
		asked.Over()
		w.note("%s is told that %s is over: %v", w.who, name, h.Err())
		w.mu.Lock()
		w.tally.losses++
		w.mu.Unlock()
	case <-hold.C:
	}
	rctx, cancel := context.WithTimeout(w.ctx, time.Duration(w.rand.Int64N(int64(ttl))))
	defer cancel()
	asked.Over()
	w.note("%s releases %s", w.who, name)
	asked.Released(h.release(rctx))
}

func (w *worker) sleep(most time.Duration) { time.Sleep(time.Duration(w.rand.Int64N(int64(most)))) }
