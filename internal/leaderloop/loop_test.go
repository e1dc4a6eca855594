package leaderloop

import (
	"context"
	"errors"
	"testing"
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
