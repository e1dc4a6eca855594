package promlock_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/etcdlocktest"
	promlock "github.com/etcdlock/etcdlock/prometheus"
)

// Two Runs of one election take turns in one process: the process leads nearly all the time, and each
// change of the leader is one.
func TestTwoRunsOfOneElectionInAProcess(t *testing.T) {
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		m := promlock.New()
		s, err := etcdlock.NewSession(t.Context(), etcd.Process("a").Client(), etcdlock.WithTrace(m.Trace()))
		require.NoError(t, err)
		other, err := etcdlock.NewSession(t.Context(), etcd.Process("a").Client(), etcdlock.WithTrace(m.Trace()))
		require.NoError(t, err)
		run := func(s *etcdlock.Session, value string) (stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = etcdlock.NewElection(s, "e").Run(ctx, value, func(ctx context.Context, _ *etcdlock.Term) error {
					<-ctx.Done()
					return nil
				})
			}()
			return func() { cancel(); <-done }
		}
		stopFirst := run(s, "first")
		time.Sleep(time.Second)
		stopSecond := run(other, "second")
		time.Sleep(time.Second)
		synctest.Wait()
		requireSamples(t, scrape(t, m), `etcdlock_election_role{name="e",role="leading"} 1`)
		require.NotContains(t, scrape(t, m), `etcdlock_election_role{name="e",role="candidate"} 1`)
		stopFirst()
		time.Sleep(time.Second)
		synctest.Wait()
		requireSamples(t, scrape(t, m), `etcdlock_election_role{name="e",role="leading"} 1`, `etcdlock_election_changes_total{name="e"} 1`)
		stopSecond()
		synctest.Wait()
		requireSamples(t, scrape(t, m), `etcdlock_election_role{name="e",role="leading"} 0`, `etcdlock_election_role{name="e",role="observer"} 1`)
		require.NoError(t, s.Close(t.Context()))
		require.NoError(t, other.Close(t.Context()))
	})
}

// Two Runs report what they see, one after the other. After a restore revisions are smaller.
func TestEachChangeOfALeaderIsCountedOnce(t *testing.T) {
	m := promlock.New()
	trace := m.Trace()
	sees := func(run, created, revision int64) {
		l := etcdlock.Leader{CreateRevision: created, Revision: revision}
		if created > 0 {
			l.Key = "k"
		}
		trace.LeaderSeen(t.Context(), etcdlock.LeaderSeenInfo{Election: "e", Leader: l, Run: run})
	}
	sees(1, 10, 10)
	sees(2, 10, 10)
	sees(1, 0, 15)
	sees(1, 20, 20)
	sees(2, 0, 15)
	sees(2, 20, 20)
	requireSamples(t, scrape(t, m), `etcdlock_election_changes_total{name="e"} 1`)
	sees(1, 5, 6) // etcd was restored
	sees(2, 5, 6)
	sees(2, 7, 7)
	requireSamples(t, scrape(t, m), `etcdlock_election_changes_total{name="e"} 3`)
}

// Work that is stuck is stuck until it returns, and its term has one reason.
func TestWorkIsStuckUntilItReturns(t *testing.T) {
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		m, ctx := promlock.New(), t.Context()
		s, err := etcdlock.NewSession(ctx, etcd.Process("a").Client(), etcdlock.WithTrace(m.Trace()))
		require.NoError(t, err)
		run, stop := context.WithCancel(ctx)
		done := make(chan error)
		go func() {
			done <- etcdlock.NewElection(s, "e").Run(run, "a", func(ctx context.Context, _ *etcdlock.Term) error {
				<-ctx.Done()
				if run.Err() == nil {
					time.Sleep(2 * time.Minute)
				}
				return nil
			}, etcdlock.WithStopTimeout(10*time.Second))
		}()
		time.Sleep(time.Minute)
		requireSamples(t, scrape(t, m), `etcdlock_election_stuck_terms{name="e"} 0`, `etcdlock_election_term_ends_total{name="e",reason="evicted"} 0`,
			`etcdlock_session_count{state="lost"} 0`)
		etcd.Evict("e")
		time.Sleep(time.Minute)
		requireSamples(t, scrape(t, m), `etcdlock_election_stuck_terms{name="e"} 1`, `etcdlock_election_stuck_total{name="e"} 1`,
			`etcdlock_election_term_ends_total{name="e",reason="evicted"} 0`)
		time.Sleep(2 * time.Minute)
		stop()
		require.ErrorIs(t, <-done, context.Canceled)
		requireSamples(t, scrape(t, m), `etcdlock_election_stuck_terms{name="e"} 0`, `etcdlock_election_stuck_total{name="e"} 1`,
			`etcdlock_election_term_ends_total{name="e",reason="evicted"} 1`,
			`etcdlock_election_term_ends_total{name="e",reason="`+etcdlock.ErrorType(context.Canceled)+`"} 1`)
		require.NoError(t, s.Close(ctx))
	})
}
