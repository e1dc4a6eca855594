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

var evicted = lockerr.Lost(lockerr.ErrEvicted)

// first sets the work of the first term. That of later ones stops as soon as it is told to.
func (s *stage) first(work func(ctx context.Context, t *fakeTerm) error) {
	first := true
	s.cfg.Work = func(ctx context.Context, t Term) error {
		if first {
			first = false
			return work(ctx, t.(*fakeTerm))
		}
		<-ctx.Done()
		return nil
	}
}

// stopsAfter is work that stops so long after it was told to.
func (s *stage) stopsAfter(d time.Duration) func(context.Context, *fakeTerm) error {
	return func(ctx context.Context, _ *fakeTerm) error {
		<-ctx.Done()
		s.note("told: %v", context.Cause(ctx))
		time.Sleep(d)
		s.note("returns")
		return nil
	}
}

// A term is given back when its work has returned, and not before, whatever the work was told to stop for. Only then is
// the lease ended that was renewed no more.
func TestWhateverStopsTheWorkTheTermIsGivenBackAfterwards(t *testing.T) {
	again := []string{"0s observer", "0s candidate", "0s leading", "1s stopping", "21s observer", "21s candidate", "21s leading"}
	for name, c := range map[string]struct {
		setup        func(s *stage)
		stop         func(s *stage, term *fakeTerm)
		roles, deeds []string
	}{
		"the context of Run ends": {
			stop:  func(s *stage, _ *fakeTerm) { s.cancel(errors.New("shutdown")) },
			roles: []string{"0s observer", "0s candidate", "0s leading", "1s stopping", "21s observer"},
			deeds: []string{"1s told: shutdown", "21s returns", "21s resign", "21s close"},
		},
		"a challenger takes over": {
			setup: func(s *stage) { s.cfg.StepDown = true },
			stop:  func(_ *stage, term *fakeTerm) { term.preempt <- "B" },
			roles: again,
			deeds: []string{"1s told: a candidate of higher priority takes over: B", "21s returns", "21s resign"},
		},
		"it is asked to resign": {
			setup: func(s *stage) { s.cfg.ResignOnRequest = true },
			stop:  func(_ *stage, term *fakeTerm) { term.asked <- ""; term.asked <- "too late" },
			roles: []string{"0s observer", "0s candidate", "0s leading", "1s stopping", "21s observer"}, // it campaigns after a second
			deeds: []string{"1s told: asked to resign by an operator", "21s returns", "21s resign", "21s listens no more"},
		},
		"it is asked to make room for a candidate": {
			setup: func(s *stage) { s.cfg.ResignOnRequest = true },
			stop:  func(_ *stage, term *fakeTerm) { term.asked <- "B"; term.asked <- "C" },
			roles: []string{"0s observer", "0s candidate", "0s leading", "1s stopping", "21s observer"},
			deeds: []string{"1s told: asked to resign by an operator, in favour of \"B\"", "21s returns", "21s transfer to B", "21s resign", "21s listens no more"},
		},
		"it is asked to resign, and does not honour that": {
			stop:  func(_ *stage, term *fakeTerm) { term.asked <- "" },
			roles: []string{"0s observer", "0s candidate", "0s leading"},
		},
		"the process is unhealthy": {
			setup: func(s *stage) {
				s.cfg.Health = &HealthCheck{Interval: time.Second, Failures: 1, Check: func(context.Context) error {
					if s.now() > 0 && s.now() < 21*time.Second {
						return errors.New("no disk")
					}
					return nil
				}}
			},
			roles: again,
			deeds: []string{"1s told: unhealthy: no disk", "21s returns", "21s resign"},
		},
		"there is no progress": {
			setup: func(s *stage) { s.cfg.ProgressEvery = time.Second },
			roles: again,
			deeds: []string{
				"1s renewed no more: no progress reported for 1s", "1s told: no progress reported for 1s",
				"21s returns", "21s resign", "21s end lease",
			},
		},
		"the term is lost": {
			stop:  func(_ *stage, term *fakeTerm) { term.lose(evicted) },
			roles: again,
			deeds: []string{"1s told: lost: another client deleted its key", "21s returns"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *stage) {
				s.first(s.stopsAfter(20 * time.Second))
				if c.setup != nil {
					c.setup(s)
				}
			}, func(s *stage) {
				s.at(time.Second)
				if c.stop != nil {
					c.stop(s, <-s.terms)
				}
				s.at(21500 * time.Millisecond)
				s.require(c.roles, c.deeds)
			})
		})
	}
}

// What comes first decides whether the term is transferred: work that was told to stop for another reason resigns, and
// the end of Run does not make a transfer a resignation.
func TestARequestDecidesOnTheNextLeaderIfItStopsTheWork(t *testing.T) {
	for name, c := range map[string]struct {
		stop func(s *stage, term *fakeTerm)
		deed string
	}{
		"Run ends, and a request comes": {func(s *stage, term *fakeTerm) {
			s.cancel(errors.New("shutdown"))
			s.at(2 * time.Second)
			term.asked <- "B"
		}, "21s resign"},
		"a request comes, and Run ends": {func(s *stage, term *fakeTerm) {
			term.asked <- "B"
			s.at(2 * time.Second)
			s.cancel(errors.New("shutdown"))
		}, "21s transfer to B"},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *stage) {
				s.first(s.stopsAfter(20 * time.Second))
				s.cfg.ResignOnRequest = true
			}, func(s *stage) {
				s.at(time.Second)
				c.stop(s, <-s.terms)
				s.at(22 * time.Second)
				require.Contains(s, s.noted(), c.deed)
				require.NotContains(s, s.noted(), "21s abandon")
				require.False(s, s.goesOn())
			})
		})
	}
}

// The pause after a request is long enough for a candidate of a lower priority to lead.
func TestRunCampaignsASecondAfterARequest(t *testing.T) {
	play(t, func(s *stage) { s.cfg.ResignOnRequest = true }, func(s *stage) {
		s.at(time.Second)
		(<-s.terms).asked <- ""
		s.at(5 * time.Second)
		s.require([]string{"0s observer", "0s candidate", "0s leading", "1s stopping", "1s observer", "2s candidate", "2s leading"},
			[]string{"1s resign", "1s listens no more"})
	})
}

// The work hears of the loss when its term ends, a whole margin before another process can lead.
func TestTheWorkIsToldWhenItsTermExpires(t *testing.T) {
	play(t, func(s *stage) { s.first(s.stopsAfter(0)) }, func(s *stage) {
		s.at(time.Second)
		(<-s.terms).cut()
		s.at(time.Minute)
		s.require([]string{"0s observer", "0s candidate", "0s leading", "53s stopping", "53s observer", "53s candidate", "53s leading"},
			[]string{"53s told: lost: the lease expired, because no renewal was answered in time", "53s returns"})
	})
}

// What the work returns while its term stands is the result of Run, unless it has resigned and reports no error.
func TestTheEndOfWorkThatWasNotToldToStop(t *testing.T) {
	again := []string{"1s stopping", "1s observer", "1s candidate", "1s leading"}
	for name, c := range map[string]struct {
		work  func(s *stage, t *fakeTerm) error
		err   error    // that Run returns, unless it campaigns again
		roles []string // after leading
		deeds []string
	}{
		"it is done": {
			func(*stage, *fakeTerm) error { return nil },
			nil, []string{"1s observer"}, []string{"1s resign", "1s close"},
		},
		"it fails": {
			func(*stage, *fakeTerm) error { return errWork },
			errWork, []string{"1s observer"}, []string{"1s resign", "1s close"},
		},
		"it fails as if it had lost its term": {
			func(*stage, *fakeTerm) error { return evicted },
			evicted, []string{"1s observer"}, []string{"1s resign", "1s close"},
		},
		"it steps down": {
			func(s *stage, t *fakeTerm) error { return t.Resign(s.ctx) },
			nil, again, []string{"1s resign"},
		},
		"it steps down and fails": {
			func(s *stage, t *fakeTerm) error { _ = t.Resign(s.ctx); return errWork },
			errWork, []string{"1s stopping", "1s observer"}, []string{"1s resign", "1s close"},
		},
		"its term is lost": {
			func(_ *stage, t *fakeTerm) error { t.lose(evicted); return nil },
			nil, again, nil,
		},
		"etcd does not answer": {
			func(_ *stage, t *fakeTerm) error { t.resigning = time.Hour; return errWork },
			errWork, []string{"1m1s observer"}, []string{"1s resign", "1m1s close"},
		},
		"Run's context ends while it resigns": {
			func(s *stage, t *fakeTerm) error {
				t.resigning = time.Second
				time.AfterFunc(500*time.Millisecond, func() { s.cancel(errors.New("too late")) })
				return nil
			},
			nil, []string{"2s observer"}, []string{"1s resign", "2s close"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *stage) {
				s.first(func(_ context.Context, t *fakeTerm) error {
					time.Sleep(time.Second)
					err := c.work(s, t)
					time.Sleep(time.Millisecond) // the watchdog sees the end of the term first
					return err
				})
			}, func(s *stage) {
				s.at(2 * time.Minute)
				require.Equal(s, len(c.roles) == len(again), s.goesOn())
				if !s.goesOn() {
					require.Equal(s, c.err, s.err)
				}
				s.require(append([]string{"0s observer", "0s candidate", "0s leading"}, c.roles...), c.deeds)
			})
		})
	}
}

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
