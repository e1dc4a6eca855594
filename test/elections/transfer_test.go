package elections

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/test/internal/cluster"
)

// The next leader, when it is not the oldest candidate.

func TestALeaderHandsOverPastThoseAhead(t *testing.T) {
	f := newFixture(t)
	candidate := func(value string, line int) <-chan cluster.Outcome[*etcdlock.Term] {
		p := cluster.CampaignInBackground(f.Ctx(), etcdlock.NewElection(f.Session(f.Client(), cluster.LongTTL), "election"), value)
		f.WaitForKeys("election", line)
		return p
	}
	term := cluster.Granted(t, candidate("a", 1)).Handle
	b, c, d := candidate("b", 2), candidate("c", 3), candidate("d", 4)
	require.ErrorIs(t, term.Transfer(f.Ctx(), "nobody"), etcdlock.ErrNoCandidate)
	require.NoError(t, term.Err())

	began := time.Now()
	require.NoError(t, term.Transfer(f.Ctx(), "d"))
	next := cluster.Granted(t, d)
	t.Logf("figure: a transfer past two candidates takes %v", next.At.Sub(began))
	require.Greater(t, next.Handle.Token(), term.Token())
	cluster.StillWaiting(t, b, 50*time.Millisecond)
	cluster.StillWaiting(t, c, 50*time.Millisecond)
	require.NoError(t, next.Handle.Transfer(f.Ctx(), "c"))
	third := cluster.Granted(t, c).Handle
	require.NoError(t, third.Resign(f.Ctx()))
	require.NoError(t, cluster.Granted(t, b).Handle.Resign(f.Ctx()))
	require.Empty(t, f.Keys("election"))
}

func TestAHigherServiceTakesOverFromALowerOne(t *testing.T) {
	f := newFixture(t)
	type event struct {
		who   string
		token int64
		ends  error
	}
	events := make(chan event, 10)
	service := func(who string, priority int) (stop func()) {
		ctx, cancel := context.WithCancel(f.Ctx())
		e := etcdlock.NewElection(f.Session(f.Client(), cluster.LongTTL), "election",
			etcdlock.WithPriority(priority), etcdlock.WithTakeover(300*time.Millisecond))
		done := make(chan error, 1)
		go func() {
			done <- e.Run(ctx, who, func(ctx context.Context, term *etcdlock.Term) error {
				events <- event{who, term.Token(), nil}
				<-ctx.Done()
				time.Sleep(100 * time.Millisecond) // it puts its work down
				events <- event{who, term.Token(), context.Cause(ctx)}
				return nil
			})
		}()
		return func() {
			cancel()
			require.ErrorIs(t, cluster.Receive(t, done, "the end of Run"), context.Canceled)
		}
	}
	stopLow := service("low", 0)
	low := cluster.Receive(t, events, "the first term")
	require.Equal(t, "low", low.who)
	equal := service("equal", 0)
	f.WaitForKeys("election", 2)

	began := time.Now()
	stopHigh := service("high", 1)
	ended := cluster.Receive(t, events, "the end of the first term")
	require.ErrorIs(t, ended.ends, etcdlock.ErrPreempted)
	high := cluster.Receive(t, events, "the next term")
	t.Logf("figure: the higher one leads %v after it came; 300 ms of these it had to wait, 100 ms the work took", time.Since(began))
	require.Equal(t, "high", high.who)
	require.Greater(t, high.token, low.token)
	require.GreaterOrEqual(t, time.Since(began), 400*time.Millisecond)

	equal()
	stopHigh()
	require.Equal(t, "high", cluster.Receive(t, events, "its end").who)
	require.Equal(t, "low", cluster.Receive(t, events, "the old leader again").who)
	stopLow()
	require.Empty(t, f.Keys("election"))
}
