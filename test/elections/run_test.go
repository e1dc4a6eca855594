package elections

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/test/internal/cluster"
)

// served is one call of the function given to Run.
type served struct {
	ctx    context.Context
	term   *etcdlock.Term
	finish chan error // what the function shall return
}

// run runs an election; each call of its function is sent to the channel, and
// goes on until told to finish.
func (f *fixture) run(ctx context.Context, e *etcdlock.Election, value string) (<-chan served, <-chan error) {
	terms, end := make(chan served, 10), make(chan error, 1)
	go func() {
		end <- e.Run(ctx, value, func(ctx context.Context, term *etcdlock.Term) error {
			call := served{ctx, term, make(chan error)}
			terms <- call
			return <-call.finish
		})
	}()
	return terms, end
}

// trap B13, B14
func TestRunCampaignsAgainAfterALossAndWaitsForItsFunction(t *testing.T) {
	f := newFixture(t)
	s := f.Session(f.Client(), cluster.LongTTL)
	ctx, cancel := context.WithCancel(f.Ctx())
	defer cancel()
	terms, end := f.run(ctx, etcdlock.NewElection(s, "election"), "a")
	first := cluster.Receive(t, terms, "the first term")
	require.NoError(t, first.ctx.Err())

	f.Revoke(s.Lease())
	cluster.Receive(t, first.ctx.Done(), "the end of the first term")
	cluster.AssertLost(t, context.Cause(first.ctx), etcdlock.ErrRevoked)
	select {
	case <-terms:
		require.FailNow(t, "a second term began while the function of the first still ran")
	case <-time.After(300 * time.Millisecond):
	}
	first.finish <- errors.New("the context ended")
	second := cluster.Receive(t, terms, "the second term")
	require.Greater(t, second.term.Token(), first.term.Token())

	// The end of ctx: the function returns first, then the term is resigned.
	cancel()
	cluster.Receive(t, second.ctx.Done(), "the end of the second context")
	require.Len(t, f.Keys("election"), 1, "resigned while the work still ran")
	second.finish <- nil
	require.ErrorIs(t, cluster.Receive(t, end, "the end of Run"), context.Canceled)
	require.Empty(t, f.Keys("election"))
}

func TestRunEndsWithItsFunctionWhileTheTermStands(t *testing.T) {
	f := newFixture(t)
	e := etcdlock.NewElection(f.Session(f.Client(), cluster.LongTTL), "election")
	boom := errors.New("boom")
	for _, result := range []error{nil, boom} {
		terms, end := f.run(f.Ctx(), e, "a")
		cluster.Receive(t, terms, "a term").finish <- result
		if err := cluster.Receive(t, end, "the end of Run"); result == nil {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, boom)
		}
		require.Empty(t, f.Keys("election"))
	}
}

func TestRunOfSeveralCandidatesHasOneLeaderAtATimeOverLosses(t *testing.T) {
	f := newFixture(t)
	var h cluster.History
	ctx, cancel := context.WithCancel(f.Ctx())
	defer cancel()
	const terms = 12
	type leader struct {
		session *etcdlock.Session
		term    *etcdlock.Term
	}
	led := make(chan leader, 100)
	ends := make(chan error, 3)
	for range 3 {
		s := f.Session(f.Client(), cluster.LongTTL)
		go func() {
			ends <- etcdlock.NewElection(s, "election").Run(ctx, "x", func(ctx context.Context, term *etcdlock.Term) error {
				defer h.Begin(term.Err, s, term.Token())()
				led <- leader{s, term}
				<-ctx.Done()
				return nil
			})
		}()
	}
	for i := range terms {
		l := cluster.Receive(t, led, "a leader")
		if i%2 == 0 {
			f.Revoke(l.session.Lease())
		} else {
			f.Delete(l.term.Key())
		}
	}
	cancel()
	for range 3 {
		require.ErrorIs(t, cluster.Receive(t, ends, "the end of Run"), context.Canceled)
	}
	// An evicted leader is told by a watch, after the next one may have begun: the
	// administrator chose so. The tokens grow nevertheless.
	h.AssertTokensGrow(t)
	// The sessions go on, and delete the keys of the two campaigns that were cancelled in the background.
	f.WaitForKeys("election", 0)
}

func TestRunEndsWithTheSession(t *testing.T) {
	f := newFixture(t)
	s := f.Session(f.Client(), cluster.LongTTL)
	terms, end := f.run(f.Ctx(), etcdlock.NewElection(s, "election"), "a")
	term := cluster.Receive(t, terms, "a term")
	closed := make(chan error, 1)
	go func() { closed <- s.Close(f.Ctx()) }()
	cluster.Receive(t, term.ctx.Done(), "the end of the term")
	term.finish <- nil
	require.NoError(t, cluster.Receive(t, closed, "Close"))
	require.ErrorIs(t, cluster.Receive(t, end, "the end of Run"), etcdlock.ErrSessionClosed)
}
