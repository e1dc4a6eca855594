package promlock_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/etcdlocktest"
	"github.com/etcdlock/etcdlock/fence"
	promlock "github.com/etcdlock/etcdlock/prometheus"
)

// A leader holds for months, so the age of the oldest hold tells of a forgotten Unlock only if it has
// the kind. A lock that is never granted has no duration yet, so the age of its call is the one sign.
func TestTheOldestCallAndHoldOfEachKind(t *testing.T) {
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		m, ctx := promlock.New(), t.Context()
		s, err := etcdlock.NewSession(ctx, etcd.Process("a").Client(), etcdlock.WithTrace(m.Trace()))
		require.NoError(t, err)
		term, err := etcdlock.NewElection(s, "e").Campaign(ctx, "v")
		require.NoError(t, err)
		time.Sleep(time.Hour)
		lock, err := etcdlock.NewMutex(s, "orders/42").Lock(ctx)
		require.NoError(t, err)
		done := make(chan error)
		go func() {
			next, err := etcdlock.NewMutex(s, "orders/42").Lock(ctx)
			done <- errors.Join(err, next.Unlock(ctx))
		}()
		time.Sleep(time.Minute)
		synctest.Wait()
		got := scrape(t, m)
		require.Regexp(t, `\netcdlock_hold_oldest_seconds\{kind="election"\} 366\d\.`, got)
		require.Regexp(t, `\netcdlock_hold_oldest_seconds\{kind="mutex"\} 60\n`, got)
		require.Regexp(t, `\netcdlock_acquire_oldest_seconds\{kind="mutex"\} 60\n`, got)
		require.NoError(t, lock.Unlock(ctx))
		require.NoError(t, <-done)
		require.NoError(t, term.Resign(ctx))
		require.Regexp(t, `\netcdlock_acquire_longest_seconds\{kind="mutex"\} 60\.`, scrape(t, m))
		require.Regexp(t, `\netcdlock_hold_longest_seconds\{kind="mutex"\} 60\.`, scrape(t, m))
		requireSamples(t, scrape(t, m), `etcdlock_hold_oldest_seconds{kind="mutex"} 0`,
			`etcdlock_hold_oldest_seconds{kind="election"} 0`, `etcdlock_acquire_oldest_seconds{kind="mutex"} 0`)
		require.NoError(t, s.Close(ctx))
	})
}

// A loss that is reported before its grant leaves no hold behind that ages.
func TestALossBeforeItsGrantHasNoAge(t *testing.T) {
	m := promlock.New()
	trace, call := m.Trace(), etcdlock.AcquireStartInfo{Kind: etcdlock.KindMutex, Name: "n"}
	ctx := trace.AcquireStart(t.Context(), call)
	trace.HoldEnd(ctx, etcdlock.HoldEndInfo{Hold: etcdlock.HoldInfo{Kind: etcdlock.KindMutex, Name: "n"}, Cause: etcdlock.ErrReleased})
	trace.AcquireEnd(ctx, etcdlock.AcquireEndInfo{AcquireStartInfo: call, Path: etcdlock.PathFree})
	requireSamples(t, scrape(t, m), `etcdlock_hold_oldest_seconds{kind="mutex"} 0`)
}

// Prometheus sees no increase in a counter whose first sample is 1.
func TestWhatAlertsCountBeginsAtZero(t *testing.T) {
	m := promlock.New()
	m.Trace().AcquireStart(t.Context(), etcdlock.AcquireStartInfo{Kind: etcdlock.KindElection, Name: "e"})
	fenced := m.Fence("db", fence.NewMemory())
	requireSamples(t, scrape(t, m), `etcdlock_hold_losses_total{kind="election",reason="expired"} 0`,
		`etcdlock_election_stuck_total{name="e"} 0`, `etcdlock_election_changes_total{name="e"} 0`,
		`etcdlock_election_leading{name="e"} 0`, `etcdlock_election_stuck_terms{name="e"} 0`,
		`etcdlock_election_term_ends_total{name="e",reason="returned"} 0`, `etcdlock_hold_duration_seconds_count{end="released",kind="election"} 0`,
		`etcdlock_acquire_duration_seconds_count{error_type="",kind="election",mode="campaign",outcome="granted",path="queued"} 0`,
		`etcdlock_fence_checks_total{outcome="stale",store="db"} 0`)

	require.NoError(t, fenced.Check(t.Context(), "r", fence.Token{Value: 2}))
	require.ErrorIs(t, fenced.Check(t.Context(), "r", fence.Token{Value: 1}), fence.ErrStale)
	require.ErrorIs(t, fenced.Check(t.Context(), "r", fence.Token{}), fence.ErrInvalid)
	requireSamples(t, scrape(t, m), `etcdlock_fence_checks_total{outcome="accepted",store="db"} 1`,
		`etcdlock_fence_checks_total{outcome="stale",store="db"} 1`, `etcdlock_fence_checks_total{outcome="failed",store="db"} 1`)
}
