package test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
)

// Who leads next, when it is not simply the one who came first.

func TestALeaderHandsOverPastThoseAhead(t *testing.T) {
	f := newFixture(t)
	candidate := func(value string, line int) <-chan outcome[*etcdlock.Term] {
		p := campaignInBackground(f.ctx(), etcdlock.NewElection(f.session(f.client(), 3*time.Second), "election"), value)
		f.waitForKeys("election", line)
		return p
	}
	term := granted(t, candidate("a", 1)).handle
	b, c, d := candidate("b", 2), candidate("c", 3), candidate("d", 4)
	require.ErrorIs(t, term.Transfer(f.ctx(), "nobody"), etcdlock.ErrNoCandidate)
	require.NoError(t, term.Err())

	began := time.Now()
	require.NoError(t, term.Transfer(f.ctx(), "d"))
	next := granted(t, d)
	t.Logf("figure: a transfer past two candidates takes %v", next.at.Sub(began))
	require.Greater(t, next.handle.Token(), term.Token())
	stillWaiting(t, b, 50*time.Millisecond)
	stillWaiting(t, c, 50*time.Millisecond)
	require.NoError(t, next.handle.Transfer(f.ctx(), "c"))
	third := granted(t, c).handle
	require.NoError(t, third.Resign(f.ctx()))
	require.NoError(t, granted(t, b).handle.Resign(f.ctx()))
	require.Empty(t, f.keys("election"))
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
		ctx, cancel := context.WithCancel(f.ctx())
		e := etcdlock.NewElection(f.session(f.client(), 3*time.Second), "election",
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
			require.ErrorIs(t, receive(t, done, "the end of Run"), context.Canceled)
		}
	}
	stopLow := service("low", 0)
	low := receive(t, events, "the first term")
	require.Equal(t, "low", low.who)
	equal := service("equal", 0)
	f.waitForKeys("election", 2)

	began := time.Now()
	stopHigh := service("high", 1)
	ended := receive(t, events, "the end of the first term")
	require.ErrorIs(t, ended.ends, etcdlock.ErrOutranked)
	high := receive(t, events, "the next term")
	t.Logf("figure: the higher one leads %v after it came; 300 ms of these it had to wait, 100 ms the work took", time.Since(began))
	require.Equal(t, "high", high.who)
	require.Greater(t, high.token, low.token)
	require.GreaterOrEqual(t, time.Since(began), 400*time.Millisecond)

	equal()
	stopHigh()
	require.Equal(t, "high", receive(t, events, "its end").who)
	require.Equal(t, "low", receive(t, events, "the old leader again").who)
	stopLow()
	require.Empty(t, f.keys("election"))
}
