package mixin

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/fence"
	"github.com/etcdlock/etcdlock/internal/eviction"
	"github.com/etcdlock/etcdlock/internal/inspect/queues"
)

// An hour of incidents leaves what a reader needs to say what has happened: metrics, alerts, logs, spans
// and audits. "make drill" sets ETCDLOCK_DRILL to the directory that gets them. The reader must not see
// this file.
func TestAnIncidentCanBeToldFromWhatItLeaves(t *testing.T) {
	dir := os.Getenv("ETCDLOCK_DRILL")
	if dir == "" {
		dir = t.TempDir()
	}
	r := newReport(t, dir)
	db := run(t, func(f *fleet) { drill(f, r) }, func(f *fleet) {
		f.pause.Store(int64(time.Minute))
		f.observe = r.traces
	})
	r.write(db)
	r.requireLines("audit.jsonl", "the nightly report hangs", "moved to new hardware", `"vacancy"|"leader"`)
	r.requireLines("log.txt", "cause=evicted", "lock granted.*jobs/nightly-report")
	r.requireLines("spans.jsonl", `"links":\[`)
	r.requireLines("alerts.txt", "LeaderFlapping", "StaleWrites", "WorkStuck", "HoldsLost")
	r.requireLines("exporter.txt", `etcdlock_queue_entries\{name="jobs/nightly-report",state="waiting"\} 1`)
}

// drill is the script.
func drill(f *fleet, r *report) {
	ctx, stop := context.WithCancel(f.t.Context())
	defer r.audits.Wait()
	defer stop()
	time.Sleep(time.Minute)
	r.begin(ctx, f, "scheduler", "jobs/nightly-report")
	at := func(minute int) { time.Sleep(time.Until(r.began.Add(time.Duration(minute) * time.Minute))) }

	at(5) // the leader flaps: each one gives up after less than two minutes
	f.term.Store(int64(100 * time.Second))
	at(17)
	f.term.Store(0)

	at(20) // a job hangs in a, and ignores its context. The next run waits in b
	first := make(chan fence.Token)
	go func() {
		lock, err := etcdlock.NewMutex(f.service("a").session, "jobs/nightly-report").Lock(ctx)
		assert.NoError(f.t, err)
		first <- fence.Of(lock, 0)
	}()
	stuck := <-first
	assert.NoError(f.t, f.service("a").fence.Check(ctx, "reports", stuck))
	at(22)
	second := make(chan struct{})
	go func() {
		defer close(second)
		lock, err := etcdlock.NewMutex(f.service("b").session, "jobs/nightly-report").Lock(ctx)
		assert.NoError(f.t, err)
		assert.NoError(f.t, f.service("b").fence.Check(ctx, "reports", fence.Of(lock, 0)))
		time.Sleep(6 * time.Minute)
		assert.NoError(f.t, lock.Unlock(ctx))
	}()
	at(29) // an operator evicts the hanging job
	evict(f, "jobs/nightly-report", "the nightly report hangs since 00:21, ticket OPS-311")
	at(31) // the job wakes up and writes
	assert.ErrorIs(f.t, f.service("a").fence.Check(ctx, "reports", stuck), fence.ErrStale)
	<-second

	at(42) // an operator evicts the leader, whose work goes on for two minutes
	f.stubborn.Store(int64(2 * time.Minute))
	evict(f, "scheduler", "host of the scheduler is moved to new hardware")
	at(60)
}

// evict does what "etcdlock evict --reason" does.
func evict(f *fleet, name, reason string) {
	ctx, client := f.t.Context(), f.exporter.Client
	q, _, err := queues.One(ctx, client.KV, name)
	require.NoError(f.t, err)
	e := q.Holders()[0]
	answer, err := eviction.Evict(ctx, client, eviction.Order{Name: name, Lease: e.Lease, Notice: eviction.Notice{
		Reason: reason, Owner: "ada", Host: "ops-1", PID: 4711, Since: time.Now().UTC(), Key: e.Key, CreateRevision: e.CreateRevision,
	}})
	require.NoError(f.t, err)
	require.True(f.t, answer.Succeeded)
}

func (r *report) path(file string) string { return filepath.Join(r.dir, file) }

// requireLines checks that a file has what a reader needs.
func (r *report) requireLines(file string, wants ...string) {
	text, err := os.ReadFile(r.path(file))
	require.NoError(r.t, err)
	for _, want := range wants {
		require.Regexp(r.t, want, string(text), "%s", file)
	}
	r.t.Logf("%s: %d bytes", file, len(text))
}
