package etcdlock

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func TestATermHasTheValuesOfTheCampaignsContextButNotItsEnd(t *testing.T) {
	type key struct{}
	simulate(t, func(w *world) {
		ctx, cancel := context.WithCancel(context.WithValue(w.ctx, key{}, "of the caller"))
		term, err := NewElection(w.session("a"), "e").Campaign(ctx, "A")
		require.NoError(w, err)
		cancel()
		w.pass(time.Minute)
		require.NoError(w, term.Err())
		require.Equal(w, "of the caller", term.Context().Value(key{}))
	})
}

func TestALeaderIsToldWhyItsTermWasLost(t *testing.T) {
	for name, c := range map[string]struct {
		lose   func(w *world, s *Session, term *Term)
		within time.Duration
		reason error
	}{
		"key deleted":   {func(w *world, _ *Session, term *Term) { w.DeleteKey(term.Key()) }, 50 * time.Millisecond, ErrEvicted},
		"lease revoked": {func(w *world, s *Session, _ *Term) { w.RevokeLease(s.Lease()) }, 50 * time.Millisecond, ErrRevoked},
		"cut off":       {func(w *world, _ *Session, _ *Term) { w.Client("a").Cut() }, ttl, ErrExpired},
		"told to nobody": {func(w *world, _ *Session, term *Term) {
			w.MissDelete(term.Key())
			w.DeleteKey(term.Key())
		}, time.Minute + time.Second, ErrEvicted},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				a := w.session("a")
				term := w.campaign(NewElection(a, "e"), "A")
				wait := w.candidate(NewElection(w.session("b"), "e"), "B")
				w.pass(time.Second)
				lost := time.Now()
				c.lose(w, a, term)
				<-term.Done()
				require.LessOrEqual(w, time.Since(lost), c.within)
				for _, err := range []error{term.Err(), context.Cause(term.Context()), term.Resign(w.ctx), term.Proclaim(w.ctx, "x")} {
					require.ErrorIs(w, err, ErrLost)
					require.ErrorIs(w, err, c.reason)
				}
				require.True(w, term.Deadline().IsZero())
				next := wait.get()
				require.Greater(w, next.Token(), term.Token())
				require.Equal(w, "B", w.values("e")[0])
			})
		})
	}
}

func TestALeaderProclaimsValuesByteForByteAndKeepsItsPlaceAndLease(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		e := NewElection(s, "e")
		values := []string{"", "host:8080", "\x00\xff\n", `{"owner":"x"}`, strings.Repeat("long ", 1000), ""}
		for _, first := range values {
			term := w.campaign(e, first)
			created := w.Get(term.Key())
			require.Equal(w, first, string(created.Value))
			require.Equal(w, first, term.Value())
			for _, value := range values {
				require.NoError(w, term.Proclaim(w.ctx, value))
				require.Equal(w, value, term.Value())
				key := w.Get(term.Key())
				require.Equal(w, value, string(key.Value))
				require.Equal(w, created.CreateRevision, key.CreateRevision)
				require.Equal(w, int64(s.Lease()), key.Lease)
			}
			require.NoError(w, term.Resign(w.ctx))
		}
		w.RevokeLease(s.Lease())
		w.empty("e")
	})
}

func TestALeaderProclaimsInOneRequest(t *testing.T) {
	simulate(t, func(w *world) {
		term := w.campaign(NewElection(w.session("a"), "e"), "A")
		w.Client("a").ResetCounts()
		require.NoError(w, term.Proclaim(w.ctx, "B"))
		require.Equal(w, 1, w.Client("a").Count())
		require.Equal(w, 1, w.Client("a").Count(simetcd.Txn))
	})
}

// However early the end is, the waiters of its session go on at once.
func TestALossThatAProclamationFindsHoldsUpNobody(t *testing.T) {
	simulate(t, func(w *world) {
		e := NewElection(w.session("a"), "e")
		term := w.campaign(e, "A")
		next := w.candidate(e, "B")
		next.isWaiting()
		w.DeleteKey(term.Key())
		require.ErrorIs(w, term.Proclaim(w.ctx, "A2"), ErrEvicted)
		found := time.Now()
		next.get()
		require.Less(w, next.at.Sub(found), 50*time.Millisecond)
	})
}

func TestALeaderWhoseKeyIsGoneLearnsItFromItsProclamation(t *testing.T) {
	simulate(t, func(w *world) {
		term := w.campaign(NewElection(w.session("a"), "e"), "A")
		w.pass(time.Second) // it has looked at its key, and watches it
		w.MissDelete(term.Key())
		w.DeleteKey(term.Key())
		w.pass(time.Second)
		require.NoError(w, term.Err(), "nobody has told it")
		err := term.Proclaim(w.ctx, "B")
		require.ErrorIs(w, err, ErrLost)
		require.ErrorIs(w, err, ErrEvicted)
		require.ErrorIs(w, context.Cause(term.Context()), ErrEvicted)
		require.Equal(w, "A", term.Value())
		w.empty("e")
	})
}

// trap B5
func TestALeaderResignsAfterAProclamationThatGotNoAnswer(t *testing.T) {
	for name, act := range map[string]simetcd.Action{
		"request lost": {DropRequest: true},
		"answer lost":  {DropReply: true},
		"refused":      {Err: rpctypes.ErrGRPCPermissionDenied},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				term := w.campaign(NewElection(w.session("a"), "e"), "A")
				w.once("a", simetcd.Txn, act)
				ctx, cancel := context.WithTimeout(w.ctx, time.Second)
				defer cancel()
				err := term.Proclaim(ctx, "B")
				if act.Err != nil {
					require.ErrorIs(w, err, rpctypes.ErrPermissionDenied)
				} else {
					require.ErrorIs(w, err, context.DeadlineExceeded)
				}
				require.NoError(w, term.Err(), "the term stands")
				require.Equal(w, "A", term.Value(), "proclaimed last with success")
				require.NoError(w, term.Proclaim(w.ctx, "C"))
				require.Equal(w, []string{"C"}, w.values("e"))
				require.NoError(w, term.Resign(w.ctx))
				w.empty("e")
			})
		})
	}
}

func TestALeaderProclaimsWithoutAnAnswerUntilItGetsOne(t *testing.T) {
	simulate(t, func(w *world) {
		term := w.campaign(NewElection(w.session("a"), "e"), "A")
		w.Stop()
		p := start(w, func(ctx context.Context) (any, error) { return nil, term.Proclaim(ctx, "B") })
		w.pass(5 * time.Second)
		p.isWaiting()
		w.Start()
		p.get()
		require.Equal(w, []string{"B"}, w.values("e"))
	})
}

// What was proclaimed with success stays until the next proclamation: a request without a caller must not
// put an older value back when it arrives at last.
func TestALeadersProclamationIsNotOvertakenByAnOlderOne(t *testing.T) {
	for name, given := range map[string]time.Duration{
		"whose caller gave up":             time.Second,
		"of which another try got through": 10 * time.Second,
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				term := w.campaign(NewElection(w.session("a"), "e"), "A")
				w.once("a", simetcd.Txn, simetcd.Action{DelayRequest: 5 * time.Second})
				ctx, cancel := context.WithTimeout(w.ctx, given)
				defer cancel()
				_ = term.Proclaim(ctx, "older")
				require.NoError(w, term.Proclaim(w.ctx, "newer"))
				w.pass(10 * time.Second)
				require.Equal(w, []string{"newer"}, w.values("e"))
				require.Equal(w, "newer", term.Value())
			})
		})
	}
}

func TestALeadersProclamationEndsWithItsTerm(t *testing.T) {
	simulate(t, func(w *world) {
		term := w.campaign(NewElection(w.session("a"), "e"), "A")
		w.Client("a").Cut()
		p := start(w, func(ctx context.Context) (any, error) { return nil, term.Proclaim(ctx, "B") })
		w.pass(time.Second)
		p.isWaiting()
		_, err := p.result()
		require.ErrorIs(w, err, ErrLost)
		require.ErrorIs(w, err, ErrExpired)
		require.NotErrorIs(w, err, context.DeadlineExceeded)
	})
}

func TestALeaderThatHasResignedCannotTouchALaterTerm(t *testing.T) {
	simulate(t, func(w *world) {
		e := NewElection(w.session("a"), "e")
		old := w.campaign(e, "old")
		require.NoError(w, old.Resign(w.ctx))
		term := w.campaign(e, "new")
		require.Equal(w, old.Key(), term.Key())
		w.Client("a").ResetCounts()
		require.ErrorIs(w, old.Proclaim(w.ctx, "stale"), ErrReleased)
		require.ErrorIs(w, old.Resign(w.ctx), ErrReleased)
		require.Zero(w, w.Client("a").Count())
		require.NoError(w, term.Err())
		require.Equal(w, []string{"new"}, w.values("e"))
	})
}

// trap B6
func TestALeaderThatResignsTwiceOrTooLateIsToldSo(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		e := NewElection(s, "e")
		term := w.campaign(e, "A")
		require.NoError(w, term.Resign(w.ctx))
		require.ErrorIs(w, term.Resign(w.ctx), ErrReleased)

		term = w.campaign(e, "A")
		w.DeleteKey(term.Key())
		err := term.Resign(w.ctx) // before the loss was noticed
		require.ErrorIs(w, err, ErrLost)
		require.ErrorIs(w, err, ErrEvicted)

		term = w.campaign(e, "A")
		require.NoError(w, s.Close(w.ctx))
		require.ErrorIs(w, term.Resign(w.ctx), ErrSessionClosed)
		require.ErrorIs(w, term.Proclaim(w.ctx, "B"), ErrSessionClosed)
	})
}

// trap B4
func TestALeaderThatResignsWhileEtcdIsAwayIsTakenAtItsWordLater(t *testing.T) {
	for name, away := range map[string][2]func(w *world){
		"stopped":     {func(w *world) { w.Stop() }, func(w *world) { w.Start() }},
		"cut":         {func(w *world) { w.Client("a").Cut() }, func(w *world) { w.Client("a").Heal() }},
		"not told":    {func(w *world) { w.Client("a").CutReplies() }, func(w *world) { w.Client("a").Heal() }},
		"cut, resume": {func(w *world) { w.Client("a").CutRequests() }, func(w *world) { w.Client("a").Resume() }},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				a := w.session("a")
				lease := a.Lease()
				term := w.campaign(NewElection(a, "e"), "A")
				wait := w.candidate(NewElection(w.session("b"), "e"), "B")
				w.pass(time.Second)
				away[0](w)
				ctx, cancel := context.WithTimeout(w.ctx, time.Second)
				defer cancel()
				p := start(w, func(context.Context) (any, error) { return nil, term.Resign(ctx) })
				w.endsNow(term)
				require.ErrorIs(w, term.Err(), ErrReleased, "over here at once")
				_, err := p.result()
				require.ErrorIs(w, err, context.DeadlineExceeded)
				require.ErrorIs(w, term.Resign(w.ctx), ErrReleased)

				away[1](w)
				w.pass(4 * time.Second)
				require.Equal(w, lease, a.Lease(), "it must not take the end of the lease")
				require.Equal(w, []string{"B"}, w.values("e"))
				wait.get()
			})
		})
	}
}

// endsNow asserts that a term ends without any time passing.
func (w *world) endsNow(term *Term) {
	w.Helper()
	now := time.Now()
	<-term.Done()
	require.Equal(w, now, time.Now())
}

func TestALeaderThatResignsWhileEtcdStaysAwayWaitsNoLongerThanItsLease(t *testing.T) {
	simulate(t, func(w *world) {
		term := w.campaign(NewElection(w.session("a"), "e"), "A")
		w.Client("a").Cut()
		p := start(w, func(ctx context.Context) (any, error) { return nil, term.Resign(ctx) })
		_, err := p.result()
		require.ErrorIs(w, err, ErrLost)
		require.ErrorIs(w, err, ErrExpired)
		require.ErrorIs(w, term.Err(), ErrReleased)
		w.pass(2 * time.Second)
		w.empty("e")
	})
}
