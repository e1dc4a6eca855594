package leaderloop

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/lockerr"
)

func TestRunReturnsTheErrorOfItsContextAndWhatTheWorkAdds(t *testing.T) {
	why := errors.New("shutdown")
	for name, c := range map[string]struct{ work, more error }{
		"nothing":              {nil, nil},
		"why it had to stop":   {why, nil},
		"the end of a context": {context.Canceled, nil},
		"a failure":            {errWork, errWork},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *stage) {
				s.first(func(ctx context.Context, _ *fakeTerm) error { <-ctx.Done(); return c.work })
			}, func(s *stage) {
				s.at(time.Second)
				s.cancel(why)
				<-s.over
				if c.more == nil {
					require.Equal(s, why, s.err)
				} else {
					require.ErrorIs(s, s.err, why)
					require.ErrorIs(s, s.err, c.more)
				}
			})
		})
	}
}

// A Run ends when etcd refuses its campaign and when its session does. Whatever is wrong with a term makes it campaign again.
func TestWhatACampaignFailsWithDecidesWhetherRunGoesOn(t *testing.T) {
	for _, err := range []error{errors.New("permission denied"), lockerr.ErrSessionClosed, lockerr.Lost(lockerr.ErrSessionClosed)} {
		play(t, func(s *stage) { s.refuse = []error{err} }, func(s *stage) {
			<-s.over
			require.Equal(s, err, s.err)
			s.require([]string{"0s observer", "0s candidate", "0s observer"}, []string{"0s close"})
		})
	}
	for _, err := range []error{evicted, lockerr.ErrUnhealthy} {
		play(t, func(s *stage) { s.refuse = []error{err} }, func(s *stage) {
			s.at(time.Second)
			s.require([]string{"0s observer", "0s candidate", "0s observer", "0s candidate", "0s leading"}, nil)
		})
	}
}

func TestARunThatCannotOpenItsCandidateReturnsWhy(t *testing.T) {
	play(t, func(s *stage) {
		s.cfg.Open = func(context.Context) (Candidate, error) { return nil, errWork }
	}, func(s *stage) {
		<-s.over
		require.Equal(s, errWork, s.err)
		require.Equal(s, errWork, s.seen().Err)
		s.require([]string{"0s observer"}, nil)
	})
	play(t, func(s *stage) {
		s.cfg.Open = func(ctx context.Context) (Candidate, error) { <-ctx.Done(); return nil, errWork }
	}, func(s *stage) {
		s.at(time.Second)
		why := errors.New("shutdown")
		s.cancel(why)
		<-s.over
		require.Equal(s, why, s.err)
	})
}

// The pauses between campaigns grow while terms are lost at once, and start over after a term that was long enough, and
// after one that was given up for another process.
func TestThePausesBetweenCampaigns(t *testing.T) {
	for name, c := range map[string]struct {
		lasts  time.Duration
		end    func(t *fakeTerm)
		growth bool
	}{
		"lost at once":       {time.Second, func(t *fakeTerm) { t.lose(evicted) }, true},
		"lost after a TTL":   {ttl + time.Second, func(t *fakeTerm) { t.lose(evicted) }, false},
		"given up by itself": {time.Second, func(t *fakeTerm) { _ = t.Resign(context.Background()) }, false},
		"preempted":          {time.Second, func(t *fakeTerm) { t.preempt <- "B" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *stage) { s.cfg.StepDown = true }, func(s *stage) {
				var pauses []time.Duration
				for range 12 {
					term := <-s.terms
					time.Sleep(c.lasts)
					ended := time.Now()
					c.end(term)
					next := <-s.terms
					pauses = append(pauses, time.Since(ended).Round(time.Millisecond))
					s.terms <- next
				}
				require.Less(s, pauses[0], 200*time.Millisecond)
				if c.growth {
					require.Greater(s, pauses[11], longestPause/2)
					require.LessOrEqual(s, pauses[11], longestPause+200*time.Millisecond)
					require.True(s, slices.Max(pauses[:4]) < slices.Min(pauses[8:]))
				} else {
					require.Less(s, slices.Max(pauses), 200*time.Millisecond)
				}
			})
		})
	}
}

// What ends the goroutine of the work is let through, and on the way everything is released.
func TestAPanicAndAGoexitOfTheWorkAreLetThrough(t *testing.T) {
	for name, c := range map[string]struct {
		end       func()
		recovered any
	}{
		"panic":  {func() { panic("broken") }, "broken"},
		"Goexit": {runtime.Goexit, nil},
	} {
		for _, told := range []bool{false, true} {
			t.Run(map[bool]string{false: name, true: name + " of work that was told to stop"}[told], func(t *testing.T) {
				play(t, func(s *stage) {
					s.cfg.StepDown, s.cfg.StopTimeout = true, time.Minute
					s.cfg.Health = &HealthCheck{Interval: time.Minute, Failures: 1, Check: func(context.Context) error { return nil }}
					s.cfg.Observe = func(ctx context.Context, _ func(func())) { <-ctx.Done(); s.note("observes no more") }
					s.cfg.Work = func(ctx context.Context, _ Term) error {
						if told {
							<-ctx.Done()
						}
						time.Sleep(time.Second)
						c.end()
						return nil
					}
				}, func(s *stage) {
					synctest.Wait()
					if told {
						s.cancel(errWork)
						s.at(time.Second)
					}
					<-s.over
					require.False(s, s.returned)
					require.Equal(s, c.recovered, s.recovered)
					deeds := []string{"1.1s looks out no more", "1.1s abandon", "1.1s observes no more", "1.1s close"}
					roles := []string{"0s observer", "0s candidate", "0s leading", "1.1s observer"}
					if told {
						deeds = []string{"0s observes no more", "100ms looks out no more", "1s abandon", "1s close"}
						roles = []string{"0s observer", "0s candidate", "0s leading", "0s stopping", "1s observer"}
					}
					s.require(roles, deeds)
					st := s.seen()
					require.False(s, st.Running)
					require.Nil(s, st.Term)
					require.Equal(s, errWorkEnded, st.Err)
				})
			})
		}
	}
}

// A leader that cannot look out for challengers leads on and logs why, unless its work has given the term away.
func TestAFailedLookoutEndsNoTerm(t *testing.T) {
	play(t, func(s *stage) { s.cfg.StepDown = true }, func(s *stage) {
		term := <-s.terms
		term.lookout <- errors.New("etcd refuses")
		s.at(time.Second)
		require.NoError(s, term.Err())
		require.Equal(s, RoleLeading, s.seen().Role)
		require.Equal(s, 1, s.logs.FilterMessageSnippet("cannot watch for candidates").Len())
	})
	play(t, func(s *stage) { s.cfg.ResignOnRequest = true }, func(s *stage) {
		term := <-s.terms
		term.lookout <- errors.New("etcd refuses")
		s.at(time.Second)
		require.NoError(s, term.Err())
		require.Equal(s, 1, s.logs.FilterMessageSnippet("cannot listen for requests to resign").Len())
	})
	play(t, func(s *stage) {
		s.cfg.ResignOnRequest = true
		s.first(s.stopsAfter(0))
	}, func(s *stage) {
		term := <-s.terms
		for range 3 {
			term.lookout <- errors.New("etcd refuses")
		}
		s.at(time.Minute)
		term.asked <- ""
		s.at(61 * time.Second)
		require.Contains(s, s.noted(), "1m0s told: asked to resign by an operator", "it tries again")
		require.Equal(s, 1, s.logs.FilterMessageSnippet("cannot listen for requests to resign").Len())
	})
	play(t, func(s *stage) {
		s.cfg.StepDown = true
		s.first(func(_ context.Context, t *fakeTerm) error {
			err := t.Resign(s.ctx)
			t.lookout <- lockerr.ErrReleased
			time.Sleep(time.Second)
			return err
		})
	}, func(s *stage) {
		s.at(time.Minute)
		require.Empty(s, s.logs.All())
	})
}

// What the work says at the end of a term that was over is logged if it is news.
func TestWhatTheWorkOfATermThatWasOverReturnsIsLogged(t *testing.T) {
	for err, logged := range map[error]int{nil: 0, evicted: 0, context.Canceled: 0, lockerr.ErrLost: 0, errWork: 1} {
		play(t, func(s *stage) {
			s.first(func(ctx context.Context, t *fakeTerm) error { <-ctx.Done(); return err })
		}, func(s *stage) {
			(<-s.terms).lose(evicted)
			s.at(time.Second)
			require.True(s, s.goesOn())
			require.Equal(s, logged, s.logs.FilterMessageSnippet("returned an error after its term").Len(), "%v", err)
		})
	}
}

// When Run returns, all that it began has ended.
func TestRunWaitsForAllThatItBegan(t *testing.T) {
	play(t, func(s *stage) {
		slow := func(what string, d time.Duration) func(context.Context) {
			return func(ctx context.Context) { <-ctx.Done(); time.Sleep(d); s.note("%s", what) }
		}
		observe, check := slow("observe", 2*time.Second), slow("check", 3*time.Second)
		s.cfg.Observe = func(ctx context.Context, _ func(func())) { observe(ctx) }
		first := true
		s.cfg.Health = &HealthCheck{Interval: time.Hour, Failures: 1, Check: func(ctx context.Context) error {
			if first {
				first = false
				return nil
			}
			check(ctx)
			return nil
		}}
		s.first(s.stopsAfter(time.Second))
		onRole := s.cfg.OnRole
		s.cfg.OnRole = func(r Role) {
			if r == RoleStopping {
				time.Sleep(10 * time.Second)
			}
			onRole(r)
		}
	}, func(s *stage) {
		s.at(time.Hour)
		s.cancel(errors.New("shutdown"))
		<-s.over
		s.require([]string{"0s observer", "0s candidate", "0s leading", "1h0m10s stopping", "1h0m10s observer"}, []string{
			"1h0m0s told: shutdown", "1h0m1s returns", "1h0m1s resign", "1h0m2s observe", "1h0m3s check", "1h0m3s close",
		})
	})
}
