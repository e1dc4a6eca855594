package leaderloop

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// deaf makes the work ignore its context for an hour, and note when it returns.
func (s *stage) deaf() {
	s.first(func(context.Context, *fakeTerm) error {
		time.Sleep(time.Hour)
		s.note("returns")
		return nil
	})
}

// stuck notes the callback, which takes so long, and the exit, which ends nothing here.
func (s *stage) stuck(callback time.Duration) {
	s.cfg.OnStuck = func(_ Term, cause error, after time.Duration) {
		s.note("stuck for %v: %v", after, cause)
		time.Sleep(callback)
	}
	s.cfg.Exit = func() { s.note("exit") }
}

// Stuck work keeps its term until its lease expires: the term is not resigned, and the lease is ended only when the work
// has returned after all.
func TestTheTermOfStuckWorkIsLeftToItsLease(t *testing.T) {
	play(t, func(s *stage) {
		s.cfg.StopTimeout = 3 * time.Second
		s.deaf()
		s.stuck(0)
		s.cfg.Exit = nil
	}, func(s *stage) {
		term := <-s.terms
		s.at(time.Second)
		s.cancel(errWork)
		s.at(4*time.Second + ttl - margin - time.Millisecond)
		require.NoError(s, term.Err(), "the lease stands")
		s.at(4*time.Second + ttl - margin)
		require.ErrorIs(s, term.Err(), lockerr.ErrExpired)
		require.True(s, s.seen().Stuck)
		require.True(s, s.goesOn(), "it waits for its work")
		<-s.over
		s.require([]string{"0s observer", "0s candidate", "0s leading", "1s stopping", "1h0m0s observer"}, []string{
			"4s renewed no more: the function of Run has not returned 3s after its context ended (the work failed)",
			"4s stuck for 3s: the work failed", "1h0m0s returns", "1h0m0s end lease", "1h0m0s close",
		})
		require.False(s, s.seen().Stuck)
		require.Equal(s, 1, s.logs.FilterLevelExact(zapcore.ErrorLevel).Len())
	})
}

// The margin of the tests is 8 s, so an eighth is a second. The work has six of them from the end of its term on, the
// callback the seventh, and in the eighth the process has ended.
func TestTheSharesOfTheMargin(t *testing.T) {
	const end = 10 * time.Second // of the term
	lost := func(s *stage, t *fakeTerm) { s.at(end); t.lose(lockerr.Lost(lockerr.ErrExpired)) }
	lostWith := func(margin time.Duration) func(s *stage, t *fakeTerm) {
		return func(s *stage, t *fakeTerm) {
			s.at(end)
			t.mu.Lock()
			t.margin = margin
			t.mu.Unlock()
			t.lose(evicted)
		}
	}
	for name, c := range map[string]struct {
		stop        time.Duration
		callback    time.Duration
		lose        func(s *stage, t *fakeTerm)
		stuck, exit time.Duration
	}{
		"no callback":               {time.Minute, 0, lost, end + 6*time.Second, end + 6*time.Second},
		"a quick callback":          {time.Minute, 300 * time.Millisecond, lost, end + 6*time.Second, end + 6300*time.Millisecond},
		"a callback that hangs":     {time.Minute, time.Minute, lostWith(4 * time.Second), end + 3*time.Second, end + 3500*time.Millisecond},
		"of a long margin":          {time.Minute, time.Minute, lostWith(16 * time.Second), end + 12*time.Second, end + 13*time.Second},
		"a shorter stop timeout":    {2 * time.Second, 0, lost, end + 2*time.Second, end + 2*time.Second},
		"and a callback that hangs": {2 * time.Second, time.Minute, lost, end + 2*time.Second, end + 3*time.Second},
		"told before the loss": {time.Minute, 0, func(s *stage, t *fakeTerm) {
			s.at(5 * time.Second)
			s.cancel(errWork)
			lost(s, t)
		}, end + 6*time.Second, end + 6*time.Second},
		"lost while the callback hangs": {time.Second, time.Minute, func(s *stage, t *fakeTerm) {
			s.at(end - 1300*time.Millisecond)
			s.cancel(errWork)
			lostWith(480*time.Millisecond)(s, t)
		}, end - 300*time.Millisecond, end + 400*time.Millisecond},
		"a margin without lock-delay": {time.Minute, 0, lostWith(4 * time.Second), end + 3*time.Second, end + 3*time.Second},
		"renewed no more, not lost": {time.Hour / 2, 0, func(s *stage, t *fakeTerm) {
			s.at(end - ttl + margin + 50*time.Second)
			t.cut()
			s.cancel(errWork)
		}, end + 56*time.Second, end + 56*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *stage) {
				s.cfg.StopTimeout = c.stop
				s.deaf()
				s.stuck(c.callback)
			}, func(s *stage) {
				c.lose(s, <-s.terms)
				s.at(30 * time.Minute)
				deeds := s.noted()
				require.Len(s, deeds, 3)
				require.Regexp(s, "^"+c.stuck.String()+" renewed no more", deeds[0])
				require.Regexp(s, "^"+c.stuck.String()+" stuck for", deeds[1])
				require.Equal(s, c.exit.String()+" exit", deeds[2])
			})
		})
	}
}

func TestTheShareOfTheWorkIsToldBefore(t *testing.T) {
	for stop, want := range map[time.Duration]time.Duration{0: 6 * time.Second, time.Second: time.Second, time.Minute: 6 * time.Second} {
		play(t, func(s *stage) { s.cfg.StopTimeout = stop }, func(s *stage) {
			require.Equal(s, want, s.seen().StopAfterLoss)
			require.EqualValues(s, min(1, stop), s.logs.FilterField(zap.Duration("timeout-after-loss", want)).Len())
		})
	}
}

// Timers stand still while a machine sleeps. When it wakes up, the loss is seen within half of the timer limit.
func TestStuckWorkIsSeenSoonAfterTheMachineHasSlept(t *testing.T) {
	play(t, func(s *stage) {
		s.cfg.StopTimeout = time.Hour / 2
		s.deaf()
		s.stuck(0)
	}, func(s *stage) {
		term := <-s.terms
		s.cancel(errWork)
		s.at(10 * time.Second)
		term.mu.Lock()
		term.asleep = ttl
		term.mu.Unlock()
		s.at(10500 * time.Millisecond)
		require.True(s, s.seen().Stuck)
	})
}

// The term that the work itself has given away bounds the work no more; the stop timeout does.
func TestWorkThatHasResignedIsBoundByTheStopTimeoutOnly(t *testing.T) {
	play(t, func(s *stage) {
		s.cfg.StopTimeout = 20 * time.Second
		s.stuck(0)
		s.first(func(ctx context.Context, t *fakeTerm) error {
			_ = t.Resign(ctx)
			<-ctx.Done()
			time.Sleep(19 * time.Second)
			s.note("returns")
			return nil
		})
	}, func(s *stage) {
		s.at(19500 * time.Millisecond)
		s.require([]string{"0s observer", "0s candidate", "0s leading", "0s stopping", "19s observer", "19s candidate", "19s leading"},
			[]string{"0s resign", "19s returns"})
	})
}

// As long as progress is reported in time the work goes on; the time counts from the last report.
func TestProgressIsAskedForFromTheLastReportOn(t *testing.T) {
	play(t, func(s *stage) {
		s.cfg.ProgressEvery = 5 * time.Second
		s.first(func(ctx context.Context, t *fakeTerm) error {
			for range 10 {
				time.Sleep(4 * time.Second)
				t.Progress().Report()
			}
			return s.stopsAfter(0)(ctx, t)
		})
	}, func(s *stage) {
		s.at(46 * time.Second)
		require.Equal(s, []string{
			"45s renewed no more: no progress reported for 5s", "45s told: no progress reported for 5s", "45s returns", "45s resign", "45s end lease",
		}, s.noted())
	})
}

// The process exits although the callback ends its goroutine.
func TestACallbackOfStuckWorkThatCallsGoexitHasReturned(t *testing.T) {
	play(t, func(s *stage) {
		s.cfg.StopTimeout = time.Second
		s.deaf()
		s.stuck(0)
		s.cfg.OnStuck = func(Term, error, time.Duration) { runtime.Goexit() }
	}, func(s *stage) {
		<-s.terms
		s.cancel(errWork)
		s.at(2 * time.Second)
		require.Equal(s, "1s exit", s.noted()[1])
	})
}
