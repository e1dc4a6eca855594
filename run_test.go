package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/leaderloop"
	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

var errWork = errors.New("the work failed")

// running is a Run under way. Each term it got is sent to terms.
type running struct {
	*pending[any]
	terms chan *Term
}

// run runs an election in a goroutine. fn may be nil: then the work lasts until its context ends.
func (w *world) run(e *Election, fn func(ctx context.Context, term *Term) error, opts ...RunOption) *running {
	r := &running{terms: make(chan *Term, 100)}
	r.pending = start(w, func(ctx context.Context) (any, error) {
		return nil, e.Run(ctx, "of "+e.session.cfg.owner, func(ctx context.Context, term *Term) error {
			select {
			case r.terms <- term:
			case <-ctx.Done():
			}
			if fn != nil {
				return fn(ctx, term)
			}
			<-ctx.Done()
			return context.Cause(ctx)
		}, opts...)
	})
	return r
}

// end ends a Run, and waits for it.
func (r *running) end() {
	r.w.Helper()
	r.cancel()
	_, err := r.result()
	require.ErrorIs(r.w, err, context.Canceled)
}

// term waits for the next term of a Run.
func (r *running) term() *Term {
	r.w.Helper()
	select {
	case term := <-r.terms:
		return term
	case <-time.After(2 * time.Minute):
		require.FailNow(r.w, "no term after two minutes")
		return nil
	}
}

func TestTheRolesAreThoseOfTheLoop(t *testing.T) {
	require.Equal(t, []Role{RoleObserver, RoleCandidate, RoleLeading, RoleStopping}, []Role{
		Role(leaderloop.RoleObserver), Role(leaderloop.RoleCandidate), Role(leaderloop.RoleLeading), Role(leaderloop.RoleStopping),
	})
}

// trap B14
func TestRunCampaignsAgainAfterEveryLoss(t *testing.T) {
	simulate(t, func(w *world) {
		a := w.session("a")
		causes := make(chan error, 10)
		run := w.run(NewElection(a, "e"), func(ctx context.Context, term *Term) error {
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return errWork // ends nothing: the term was lost
		})
		token := int64(0)
		for _, c := range []struct {
			lose   func(term *Term)
			reason error
		}{
			{func(term *Term) { w.DeleteKey(term.Key()) }, ErrEvicted},
			{func(*Term) { w.RevokeLease(a.Lease()) }, ErrRevoked},
			{func(*Term) { w.Client("a").Cut(); w.pass(2 * ttl); w.Client("a").Heal() }, ErrExpired},
			{func(*Term) { w.Stop(); w.pass(2 * ttl); w.Start() }, ErrExpired},
			{func(term *Term) { w.DeleteKey(term.Key()) }, ErrEvicted},
		} {
			term := run.term()
			require.Greater(w, term.Token(), token)
			token = term.Token()
			require.Equal(w, []string{"of a"}, w.values("e"))
			w.pass(time.Second)
			c.lose(term)
			cause := <-causes
			require.ErrorIs(w, cause, ErrLost)
			require.ErrorIs(w, cause, c.reason)
		}
		last := run.term()
		run.isWaiting()
		run.cancel()
		_, err := run.result()
		require.ErrorIs(w, err, context.Canceled)
		require.ErrorIs(w, err, errWork, "what the work said when it was told to stop")
		require.ErrorIs(w, last.Err(), ErrReleased)
		w.empty("e")
	})
}

// trap B14: a place in line that was lost is no reason to give up either.
func TestRunCampaignsAgainWhenItLosesItsPlaceInLine(t *testing.T) {
	simulate(t, func(w *world) {
		b := w.session("b")
		leader := w.campaign(NewElection(w.session("a"), "e"), "A")
		run := w.run(NewElection(b, "e"), nil)
		w.pass(time.Second)
		w.DeleteKey("e/" + wire.Hex(b.Lease()))
		w.pass(time.Second)
		require.Equal(w, []string{"A", "of b"}, w.values("e"))
		w.RevokeLease(b.Lease())
		w.pass(time.Second)
		require.Equal(w, []string{"A", "of b"}, w.values("e"))
		run.isWaiting()
		require.NoError(w, leader.Resign(w.ctx))
		run.term()
	})
}

func TestRunTellsTheWorkThatTheTermIsLostBeforeAnybodyElseLeads(t *testing.T) {
	simulate(t, func(w *world) {
		var told time.Time
		run := w.run(NewElection(w.session("a"), "e"), func(ctx context.Context, term *Term) error {
			<-ctx.Done()
			told = time.Now()
			return nil
		})
		term := run.term()
		next := w.candidate(NewElection(w.session("b"), "e"), "B")
		w.pass(time.Second)
		w.Client("a").Cut()
		deadline := term.Deadline()
		next.get()
		require.Equal(w, deadline, told)
		require.True(w, told.Before(next.at), "told at %v, the next one led at %v", told, next.at)
		require.ErrorIs(w, term.Err(), ErrExpired)
	})
}

// trap B13
func TestRunResignsOnlyAfterTheWorkHasReturned(t *testing.T) {
	simulate(t, func(w *world) {
		var returned time.Time
		run := w.run(NewElection(w.session("a"), "e"), func(ctx context.Context, term *Term) error {
			<-ctx.Done()
			time.Sleep(3 * ttl) // it takes longer than its lease; Run keeps the lease all the time
			require.NoError(w, term.Err())
			returned = time.Now()
			return nil
		})
		run.term()
		next := w.candidate(NewElection(w.session("b"), "e"), "B")
		run.cancel()
		w.pass(2 * ttl)
		next.isWaiting()
		_, err := run.result()
		require.ErrorIs(w, err, context.Canceled)
		next.get()
		require.False(w, next.at.Before(returned))
	})
}

func TestRunEndsWithWhatTheWorkReturnsWhileItLeads(t *testing.T) {
	for _, result := range []error{nil, errWork, ErrLost, context.Canceled} {
		t.Run(fmt.Sprint(result), func(t *testing.T) {
			simulate(t, func(w *world) {
				run := w.run(NewElection(w.session("a"), "e"), func(context.Context, *Term) error { return result })
				_, err := run.result()
				require.Equal(w, result, err)
				require.Len(w, run.terms, 1)
				require.ErrorIs(w, run.term().Err(), ErrReleased)
				w.empty("e")
			})
		})
	}
}

// A context or a session that ends while Run resigns comes too late to change the result of the work.
func TestRunEndsWithTheResultOfItsWorkThoughItIsToldToEndWhileItResigns(t *testing.T) {
	for name, end := range map[string]func(w *world, run *running, s *Session){
		"by its context": func(_ *world, run *running, _ *Session) { run.cancel() },
		"by its session": func(w *world, _ *running, s *Session) { require.NoError(w, s.Close(w.ctx)) },
	} {
		t.Run(name, func(t *testing.T) {
			for _, result := range []error{nil, errWork} {
				simulate(t, func(w *world) {
					s := w.session("a")
					run := w.run(NewElection(s, "e"), func(context.Context, *Term) error {
						time.Sleep(time.Second)
						w.once("a", simetcd.Txn, simetcd.Action{DelayReply: time.Second})
						return result
					}, WithStopTimeout(time.Minute))
					run.term()
					w.pass(1500 * time.Millisecond)
					run.isWaiting() // for the answer to its resignation
					end(w, run, s)
					_, err := run.result()
					require.Equal(w, result, err)
				})
			}
		})
	}
}

func TestRunCampaignsAgainWhenTheWorkStepsDown(t *testing.T) {
	simulate(t, func(w *world) {
		var runs []*running
		for _, name := range []string{"a", "b"} {
			runs = append(runs, w.run(NewElection(w.session(name), "e"), func(_ context.Context, term *Term) error {
				time.Sleep(time.Second)
				return term.Resign(w.ctx)
			}))
			w.pass(10 * time.Millisecond)
		}
		token := int64(0)
		for range 5 { // they take turns
			for _, r := range runs {
				term := r.term()
				require.Greater(w, term.Token(), token)
				token = term.Token()
			}
		}
		for _, r := range runs {
			r.cancel()
			_, err := r.result()
			require.ErrorIs(w, err, context.Canceled)
		}
		w.empty("e")
	})
}

// The context that the work has at hand ends with the term. To step down with it is no error for that.
func TestRunCampaignsAgainWhenTheWorkStepsDownUnderItsOwnContext(t *testing.T) {
	simulate(t, func(w *world) {
		steppedDown := make(chan error, 10)
		run := w.run(NewElection(w.session("a"), "e"), func(ctx context.Context, term *Term) error {
			time.Sleep(time.Second)
			err := term.Resign(ctx)
			steppedDown <- err
			return err
		})
		for range 3 {
			run.term()
			require.NoError(w, <-steppedDown)
		}
	})
}

func TestRunEndsWithTheErrorOfWorkThatSteppedDown(t *testing.T) {
	simulate(t, func(w *world) {
		run := w.run(NewElection(w.session("a"), "e"), func(_ context.Context, term *Term) error {
			return errors.Join(errWork, term.Resign(w.ctx))
		})
		_, err := run.result()
		require.ErrorIs(w, err, errWork)
	})
}

func TestRunResignsWhenTheWorkPanicsAndLetsThePanicThrough(t *testing.T) {
	simulate(t, func(w *world) {
		e := NewElection(w.session("a"), "e")
		p := start(w, func(ctx context.Context) (recovered any, err error) {
			defer func() { recovered = recover() }()
			return nil, e.Run(ctx, "A", func(context.Context, *Term) error { panic("the work is broken") })
		})
		require.Equal(w, "the work is broken", p.get())
		next := w.candidate(NewElection(w.session("b"), "e"), "B")
		next.get()
		require.Less(w, next.at.Sub(p.at), time.Second)
	})
}

func TestRunEndsWhenItsContextDoes(t *testing.T) {
	simulate(t, func(w *world) {
		e := NewElection(w.session("a"), "e")
		why := errors.New("shutting down")
		ended, cancel := context.WithCancelCause(w.ctx)
		cancel(why)
		err := e.Run(ended, "A", func(context.Context, *Term) error { panic("must not lead") })
		require.ErrorIs(w, err, context.Canceled)
		require.ErrorIs(w, err, why)

		leader := w.campaign(NewElection(w.session("b"), "e"), "B")
		run := w.run(e, nil)
		w.pass(time.Second)
		require.Equal(w, []string{"B", "of a"}, w.values("e"))
		asked := time.Now()
		run.cancel()
		_, err = run.result()
		require.ErrorIs(w, err, context.Canceled)
		require.Equal(w, asked, run.at)
		w.pass(time.Second)
		require.Equal(w, []string{"B"}, w.values("e"))
		require.NoError(w, leader.Err())
	})
}

func TestRunEndsWithinATTLWhenItsContextEndsWhileEtcdIsAway(t *testing.T) {
	simulate(t, func(w *world) {
		run := w.run(NewElection(w.session("a"), "e"), nil)
		run.term()
		w.Stop()
		asked := time.Now()
		run.cancel()
		_, err := run.result()
		require.ErrorIs(w, err, context.Canceled)
		require.LessOrEqual(w, run.at.Sub(asked), ttl)
		w.Start()
		w.pass(3 * time.Second)
		w.empty("e")
	})
}

func TestRunEndsWithItsSession(t *testing.T) {
	for name, leading := range map[string]bool{"leading": true, "in line": false} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				a := w.session("a")
				if !leading {
					w.campaign(NewElection(w.session("b"), "e"), "B")
				}
				run := w.run(NewElection(a, "e"), nil)
				w.pass(time.Second)
				require.NoError(w, a.Close(w.ctx))
				_, err := run.result()
				require.ErrorIs(w, err, ErrSessionClosed)
				require.NotErrorIs(w, err, ErrLost)
				require.Len(w, run.terms, map[bool]int{true: 1, false: 0}[leading])
				require.ErrorIs(w, NewElection(a, "e").Run(w.ctx, "A", nil), ErrSessionClosed)
			})
		})
	}
}

func TestRunEndsWhenItCanNeverLead(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		require.ErrorIs(w, NewElection(s, "e/").Run(w.ctx, "A", nil), ErrInvalidName)
		require.ErrorIs(w, NewElection(nil, "e").Run(w.ctx, "A", nil), ErrSessionClosed)
		w.once("a", simetcd.Txn, simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied})
		require.ErrorIs(w, NewElection(s, "e").Run(w.ctx, "A", nil), rpctypes.ErrPermissionDenied)
	})
}
