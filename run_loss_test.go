package etcdlock

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	logged "go.uber.org/zap/zaptest/observer"
)

// exitAt is WithExitWhenStuck for a process that goes on without its work.
func exitAt(d *deaf, exited chan<- time.Time) RunOption {
	return exitBy(func(int) {
		exited <- time.Now()
		close(d.let)
	})
}

// report E1: work that was told to stop for another reason is bound by a loss that comes later, too.
func TestAProcessWhoseTermIsLostWhileItsWorkStopsEndsBeforeAnybodyElseLeads(t *testing.T) {
	hangs := WithOnStuck(func(StuckTerm) { time.Sleep(time.Minute) })
	for name, c := range map[string]struct {
		opts  []RunOption
		cut   time.Duration // after the work was told to stop; 0: never
		delay time.Duration // the lock-delay
	}{
		"a second later":                              {[]RunOption{WithStopTimeout(20 * time.Second)}, time.Second, 0},
		"a second later, with a lock-delay":           {[]RunOption{WithStopTimeout(time.Minute)}, time.Second, 30 * time.Second},
		"a second later, and the callback hangs":      {[]RunOption{WithStopTimeout(20 * time.Second), hangs}, time.Second, 0},
		"a second later, while the callback hangs":    {[]RunOption{WithStopTimeout(8 * time.Second), hangs}, time.Second, 0},
		"no progress, and no fault":                   {[]RunOption{WithStopTimeout(20 * time.Second), WithProgress(5 * time.Second)}, 0, 0},
		"no progress, and the network goes meanwhile": {[]RunOption{WithStopTimeout(20 * time.Second), WithProgress(5 * time.Second)}, time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				d, exited := newDeaf(), make(chan time.Time, 1)
				a := w.session("a", WithLockDelay(c.delay))
				run := w.run(NewElection(a, "e"), d.work, append(c.opts, exitAt(d, exited))...)
				run.term()
				next := w.candidate(NewElection(w.session("b"), "e"), "B")
				w.pass(3 * time.Second)
				if len(c.opts) < 2 || c.cut > 0 {
					run.cancel()
				}
				<-d.told //nolint:errcheck // a moment, no error
				if c.cut > 0 {
					w.pass(c.cut)
					w.Client("a").Cut()
				}
				next.get()
				require.Len(w, exited, 1, "the next one leads beside it")
				require.True(w, (<-exited).Before(next.at))
				w.Client("a").Heal()
				run.cancel()
				_, err := run.result()
				require.Error(w, err)
			})
		})
	}
}

// report E1: whatever the times are.
func TestAStuckProcessNeverRunsBesideTheNextLeader(t *testing.T) {
	for seed := range uint64(60) {
		simulate(t, func(w *world) {
			r := rand.New(rand.NewPCG(seed, 1))
			upTo := func(d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d))) }
			d, exited := newDeaf(), make(chan time.Time, 1)
			callback := upTo(3 * time.Second)
			a := w.session("a", WithMargin(100*time.Millisecond+upTo(4*time.Second)), WithLockDelay(time.Duration(r.IntN(3))*time.Second))
			opts := []RunOption{
				WithStopTimeout(time.Millisecond + upTo(25*time.Second)), WithOnStuck(func(StuckTerm) { time.Sleep(callback) }), exitAt(d, exited),
			}
			if r.IntN(3) == 0 {
				opts = append(opts, WithProgress(time.Second+upTo(10*time.Second)))
			}
			run := w.run(NewElection(a, "e"), d.work, opts...)
			run.term()
			next := w.candidate(NewElection(w.session("b"), "e"), "B")
			w.pass(upTo(10 * time.Second))
			run.cancel()
			w.pass(upTo(15 * time.Second))
			if r.IntN(4) > 0 {
				w.Client("a").Cut()
			}
			next.get()
			require.Len(w, exited, 1, "seed %d", seed)
			require.True(w, (<-exited).Before(next.at), "seed %d", seed)
			w.Client("a").Heal()
			_, err := run.result()
			require.Error(w, err)
		})
	}
}

// report E1: a term that was evicted while the work stops is over at once, and the work has the margin's share from then.
func TestAProcessWhoseTermIsEvictedWhileItsWorkStopsEndsWithinTheMargin(t *testing.T) {
	for name, evict := range map[string]func(w *world, term *Term){
		"deleted": func(w *world, term *Term) { w.DeleteKey(term.Key()) },
		"revoked": func(w *world, term *Term) { w.RevokeLease(term.of.Lease().ID()) },
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				d, exited := newDeaf(), make(chan time.Time, 1)
				run := w.run(NewElection(w.session("a", WithLockDelay(20*time.Second)), "e"), d.work,
					WithStopTimeout(20*time.Second), exitAt(d, exited))
				term := run.term()
				run.cancel()
				<-d.told //nolint:errcheck // a moment, no error
				w.pass(time.Second)
				evict(w, term)
				<-term.Done()
				lost := time.Now()
				w.pass(time.Second)
				require.Len(w, exited, 1)
				require.Equal(w, 750*time.Millisecond, (<-exited).Sub(lost), "three quarters of the margin; there is no callback")
				_, err := run.result()
				require.Error(w, err)
			})
		})
	}
}

// report E2: after a loss the work has three quarters of the margin, which is told before.
func TestWorkThatStopsInItsShareOfTheMarginIsNotStuck(t *testing.T) {
	check := func(context.Context) error { return nil }
	for name, c := range map[string]struct {
		session     []SessionOption
		stop, hang  time.Duration
		needs, told time.Duration
		ttl         time.Duration
	}{
		"the default margin":   {[]SessionOption{WithTTL(5 * time.Second)}, 3 * time.Second, 7 * time.Second, 300 * time.Millisecond, 375 * time.Millisecond, 5 * time.Second},
		"as in the docs":       {[]SessionOption{WithTTL(15 * time.Second), WithMargin(4 * time.Second)}, 3 * time.Second, 20 * time.Second, 2900 * time.Millisecond, 3 * time.Second, 15 * time.Second},
		"a short stop timeout": {[]SessionOption{WithTTL(5 * time.Second), WithMargin(2 * time.Second)}, time.Second, 7 * time.Second, 900 * time.Millisecond, time.Second, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				core, logs := logged.New(zapcore.InfoLevel)
				var monitor Monitor
				var lost, returned time.Time
				a := w.session("a", append(c.session, WithLogger(zap.New(core)))...)
				run := w.run(NewElection(a, "e"), func(ctx context.Context, term *Term) error {
					for ctx.Err() == nil {
						term.Progress()
						select {
						case <-time.After(time.Second):
						case <-ctx.Done():
						}
					}
					if lost.IsZero() {
						lost = time.Now()
						time.Sleep(c.needs)
						returned = time.Now()
					}
					return nil
				}, WithStopTimeout(c.stop), exitBy(func(int) { w.Error("it had time") }), WithProgress(time.Minute),
					WithHealthCheck(HealthCheck{Interval: time.Second, Failures: 3, Check: check}), WithMonitor(&monitor))
				term := run.term()
				require.Equal(w, c.told, monitor.Status().StopAfterLoss)
				w.pass(time.Second)
				w.Stop()
				w.pass(c.hang)
				w.Start()
				next := run.term()
				require.ErrorIs(w, term.Err(), ErrExpired)
				require.Equal(w, c.needs, returned.Sub(lost))
				require.Greater(w, next.Token(), term.Token())
				run.end()

				told := logs.FilterMessageSnippet("must return in time").All()
				require.Len(w, told, 1, "once for each Run")
				require.Equal(w, zapcore.InfoLevel, told[0].Level)
				require.Equal(w, c.told, told[0].ContextMap()["timeout-after-loss"])
				require.Equal(w, c.ttl, told[0].ContextMap()["ttl"])
			})
		})
	}
}

// report E2: the share is what is told, to the millisecond, and the process ends within the margin.
func TestWorkIsStuckWhenItsShareOfTheMarginIsOver(t *testing.T) {
	for _, callback := range []time.Duration{0, time.Minute} {
		t.Run(fmt.Sprint(callback), func(t *testing.T) {
			simulate(t, func(w *world) {
				d, exited, stuck := newDeaf(), make(chan time.Time, 1), make(chan time.Time, 1)
				run := w.run(NewElection(w.session("a", WithMargin(4*time.Second)), "e"), d.work, WithStopTimeout(time.Minute),
					WithOnStuck(func(StuckTerm) { stuck <- time.Now(); time.Sleep(callback) }), exitAt(d, exited))
				run.term()
				w.Client("a").Cut()
				require.ErrorIs(w, <-d.told, ErrExpired)
				told := <-d.at
				exit := <-exited
				require.Equal(w, 3*time.Second, (<-stuck).Sub(told))
				require.Equal(w, map[bool]time.Duration{true: 3 * time.Second, false: 3500 * time.Millisecond}[callback == 0], exit.Sub(told))
				w.Client("a").Heal()
				run.end()
			})
		})
	}
}
