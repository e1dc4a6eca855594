package gocronlock

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/testhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type world struct {
	*testing.T
	*simetcd.Server
}

// simulate runs a test on an etcd in memory, in virtual time.
func simulate(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := simetcd.New(simetcd.Config{Seed: 1})
		defer srv.Close()
		test(&world{t, srv})
	})
}

func (w *world) session(client string) *etcdlock.Session {
	w.Helper()
	s, err := etcdlock.NewSession(w.Context(), w.Client(client).Client)
	require.NoError(w, err)
	w.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

// scheduler runs one job, and tells how often it did and what its locker refused.
func (w *world) scheduler(every time.Duration, job func(), opt gocron.SchedulerOption, jobOpts ...gocron.JobOption) {
	w.Helper()
	s, err := gocron.NewScheduler(opt)
	require.NoError(w, err)
	_, err = s.NewJob(gocron.DurationJob(every), gocron.NewTask(job), append(jobOpts, gocron.WithName("reports/daily"))...)
	require.NoError(w, err)
	s.Start()
	w.Cleanup(func() { require.NoError(w, s.Shutdown()) })
}

// pass lets virtual time pass.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestEachRunGoesToOneScheduler(t *testing.T) {
	simulate(t, func(w *world) {
		var runs atomic.Int64
		for _, node := range []string{"a", "b", "c"} {
			l := NewLocker(w.session(node))
			w.scheduler(time.Minute, func() { runs.Add(1) }, gocron.WithDistributedLocker(l))
			w.pass(30 * time.Millisecond) // their clocks differ by so much; the job takes no time
		}
		w.pass(time.Hour)
		require.EqualValues(w, 60, runs.Load())
	})
}

// The test above must be able to fail.
func TestWithoutSplayAJobIsRunByAllWhoseClocksDiffer(t *testing.T) {
	simulate(t, func(w *world) {
		var runs atomic.Int64
		for _, node := range []string{"a", "b"} {
			l := NewLocker(w.session(node), WithSplay(0))
			w.scheduler(time.Minute, func() { runs.Add(1) }, gocron.WithDistributedLocker(l))
			w.pass(30 * time.Millisecond)
		}
		w.pass(time.Hour)
		require.EqualValues(w, 120, runs.Load())
	})
}

func TestALongJobKeepsTheOthersOut(t *testing.T) {
	simulate(t, func(w *world) {
		var runs, inside, most atomic.Int64
		done := make(chan struct{})
		job := func() {
			runs.Add(1)
			most.Store(max(most.Load(), inside.Add(1)))
			select {
			case <-time.After(150 * time.Second):
			case <-done:
			}
			inside.Add(-1)
		}
		for _, node := range []string{"a", "b"} {
			l := NewLocker(w.session(node))
			w.scheduler(time.Minute, job, gocron.WithDistributedLocker(l), gocron.WithSingletonMode(gocron.LimitModeReschedule))
			w.pass(10 * time.Millisecond)
		}
		w.pass(time.Hour)
		close(done) // gocron does not stop in virtual time while a job runs
		w.pass(time.Second)
		require.EqualValues(w, 1, most.Load())
		require.Greater(w, runs.Load(), int64(15))
	})
}

func TestTheJobIsToldOfALoss(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		l := NewLocker(s)
		lost := make(chan error, 1)
		w.scheduler(time.Minute, func() {
			lock := l.Held("reports/daily")
			<-lock.Done()
			lost <- lock.Err()
		}, gocron.WithDistributedLocker(l))
		w.pass(61 * time.Second)
		require.NotNil(w, l.Held("reports/daily"))
		w.RevokeLease(s.Lease())
		require.ErrorIs(w, <-lost, etcdlock.ErrRevoked)
		w.pass(time.Second)
		require.Nil(w, l.Held("reports/daily"))
	})
}

func TestALockIsRefusedAtOnceAndKeptForTheSplay(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewLocker(w.session("a"), WithPrefix("jobs")), NewLocker(w.session("b"), WithPrefix("jobs"))
		ctx := w.Context()
		run, err := a.Lock(ctx, "x/y")
		require.NoError(w, err)
		nested, err := a.Lock(ctx, "x")
		require.NoError(w, err, "names are escaped, and none lies inside another")
		require.NoError(w, nested.Unlock(ctx))
		require.Len(w, w.Keys("jobs/x%2Fy/"), 1)
		_, err = b.Lock(ctx, "x/y")
		require.ErrorIs(w, err, etcdlock.ErrLocked)
		require.NoError(w, run.Unlock(ctx))
		_, err = b.Lock(ctx, "x/y")
		require.ErrorIs(w, err, etcdlock.ErrLocked)
		w.pass(DefaultSplay)
		run, err = b.Lock(ctx, "x/y")
		require.NoError(w, err)
		w.pass(time.Second)
		require.NoError(w, run.Unlock(ctx))
		require.Empty(w, w.Keys(""))
		_, err = b.Lock(ctx, "")
		require.ErrorIs(w, err, etcdlock.ErrInvalidName)
	})
}

func TestOneSchedulerRunsAllJobsAndAnotherTakesOver(t *testing.T) {
	simulate(t, func(w *world) {
		runs := map[string]*atomic.Int64{}
		electors := map[string]*Elector{}
		for _, node := range []string{"a", "b"} {
			e := NewElector(w.Context(), w.session(node), "scheduler", node)
			w.Cleanup(func() { _ = e.Close(context.Background()) })
			electors[node], runs[node] = e, &atomic.Int64{}
			w.scheduler(time.Minute, func() { runs[node].Add(1) }, gocron.WithDistributedElector(e))
			w.pass(time.Second)
		}
		require.NoError(w, electors["a"].IsLeader(w.Context()))
		require.ErrorIs(w, electors["b"].IsLeader(w.Context()), ErrNotLeader)
		require.Equal(w, "a", electors["a"].Term().Value())
		require.Nil(w, electors["b"].Term())
		w.pass(10 * time.Minute)
		require.EqualValues(w, 10, runs["a"].Load())

		w.Client("a").Cut()
		w.pass(11 * time.Second) // its lease is over
		require.ErrorIs(w, electors["a"].IsLeader(w.Context()), ErrNotLeader)
		require.Nil(w, electors["a"].Term())
		require.NoError(w, electors["b"].IsLeader(w.Context()))
		w.pass(10 * time.Minute)
		require.EqualValues(w, 10, runs["a"].Load())
		require.EqualValues(w, 10, runs["b"].Load())

		w.Client("a").Heal()
		w.pass(time.Minute)
		require.NoError(w, electors["b"].Close(w.Context()))
		w.pass(time.Second)
		require.NoError(w, electors["a"].IsLeader(w.Context()), "it campaigns again by itself")
		require.ErrorIs(w, electors["b"].IsLeader(w.Context()), ErrNotLeader)
	})
}

// A machine that has slept: its timers have not fired yet.
func TestAnElectorLooksAtTheClockItself(t *testing.T) {
	simulate(t, func(w *world) {
		start, slept := time.Now(), time.Duration(0)
		c := w.Client("a").Client
		testhook.For(c, testhook.Hooks{Clock: func() time.Duration { return time.Since(start) + slept }})
		s, err := etcdlock.NewSession(w.Context(), c)
		require.NoError(w, err)
		w.Cleanup(func() { _ = s.Close(context.Background()) })
		e := NewElector(w.Context(), s, "scheduler", "a")
		w.Cleanup(func() { _ = e.Close(context.Background()) })
		w.pass(time.Second)
		require.NoError(w, e.IsLeader(w.Context()))
		slept = etcdlock.DefaultTTL
		require.ErrorIs(w, e.IsLeader(w.Context()), etcdlock.ErrExpired)
	})
}

func TestAnElectorTellsWhyItWillNeverLead(t *testing.T) {
	simulate(t, func(w *world) {
		bad := NewElector(w.Context(), w.session("a"), "no/", "a")
		s := w.session("b")
		e := NewElector(w.Context(), s, "scheduler", "b")
		w.pass(time.Second)
		err := bad.IsLeader(w.Context())
		require.ErrorIs(w, err, ErrNotLeader)
		require.ErrorIs(w, err, etcdlock.ErrInvalidName)
		require.NoError(w, bad.Close(w.Context()))

		require.NoError(w, s.Close(w.Context()))
		w.pass(time.Second)
		require.ErrorIs(w, e.IsLeader(w.Context()), etcdlock.ErrSessionClosed)
		require.NoError(w, e.Close(w.Context()))
	})
}
