package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// Three processes run one service each while the network and etcd do what they can, and their own health and progress
// too: two of them never work at one time, nor does one outside of its term; and when the faults are over, one works.
func TestRunNeverHasTwoLeadersAtWorkWhateverTheWeather(t *testing.T) {
	for name, options := range map[string]func(r *rand.Rand) []RunOption{
		"plain": func(*rand.Rand) []RunOption { return nil },
		"all options": func(r *rand.Rand) []RunOption {
			return []RunOption{
				WithStopTimeout(5 * time.Second), WithProgress(4 * time.Second), WithMonitor(new(Monitor)),
				WithHealthCheck(HealthCheck{Interval: 500 * time.Millisecond, Failures: 2, Check: func(ctx context.Context) error {
					switch r.IntN(8) {
					case 0, 1:
						return errWork
					case 2:
						<-ctx.Done()
					}
					return nil
				}}),
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			terms := 0
			for seed := range uint64(5) {
				simulateWith(t, simetcd.Config{Seed: seed}, func(w *world) { terms += w.work(seed, options) })
			}
			t.Logf("%d terms", terms)
		})
	}
}

// work runs three services in a weather, and counts the terms.
func (w *world) work(seed uint64, options func(r *rand.Rand) []RunOption) int {
	var atWork, started atomic.Int32
	var runs []*running
	for i := range 3 {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		runs = append(runs, w.run(NewElection(w.session(fmt.Sprintf("c%d", i), WithTTL(3*time.Second)), "e"),
			func(ctx context.Context, term *Term) error {
				if n := atWork.Add(1); n > 1 {
					w.Errorf("seed %d: %d at work at one time", seed, n)
				}
				started.Add(1)
				work := time.After(time.Duration(r.Int64N(int64(8 * time.Second))))
				for {
					select {
					case <-ctx.Done():
						if errors.Is(context.Cause(ctx), ErrUnhealthy) { // it takes its time, and has it
							select {
							case <-time.After(time.Duration(r.Int64N(int64(4 * time.Second)))):
							case <-term.Done():
							}
						}
						atWork.Add(-1)
						return nil
					case <-work:
						atWork.Add(-1) // the work ends before it resigns
						_ = term.Resign(ctx)
						return nil
					case <-time.After(time.Second):
						if term.Err() != nil && ctx.Err() == nil {
							w.Errorf("seed %d: at work outside of its term", seed)
						}
						if r.IntN(3) > 0 {
							term.Progress()
						}
					}
				}
			}, options(rand.New(rand.NewPCG(seed, uint64(100+i))))...))
	}
	w.weather(seed, 25, allFaults, "c0", "c1", "c2")
	w.pass(20 * time.Second)
	before := started.Load()
	w.pass(time.Minute)
	require.Greater(w, started.Load(), before, "seed %d: nobody leads in good weather", seed)
	for _, r := range runs {
		r.cancel()
	}
	for _, r := range runs {
		r.end()
	}
	return int(started.Load())
}

const (
	allFaults       = 10
	noMissedDeletes = allFaults - 1
)

// weather makes n faults of so many kinds one after the other, drawn from the seed, to these clients and to etcd; all is
// well when it returns.
func (w *world) weather(seed uint64, n, kinds int, clients ...string) {
	w.Intercept(func(c simetcd.Call) simetcd.Action {
		r := rand.New(rand.NewPCG(seed, uint64(c.N)<<16|uint64(c.Kind)<<8|uint64(c.Client[len(c.Client)-1])))
		switch r.IntN(40) {
		case 0:
			return simetcd.Action{DropReply: true}
		case 1:
			return simetcd.Action{DropRequest: true}
		case 2:
			return simetcd.Action{DelayReply: time.Duration(r.Int64N(int64(4 * time.Second)))}
		default:
			return simetcd.Action{}
		}
	})
	r := rand.New(rand.NewPCG(seed, 0))
	for range n {
		c := w.Client(clients[r.IntN(len(clients))])
		away := time.Duration(r.Int64N(int64(5 * time.Second)))
		switch r.IntN(kinds) {
		case 0:
			c.Cut()
			w.pass(away)
			c.Heal()
		case 1:
			c.CutReplies()
			w.pass(away)
			c.Resume()
		case 2:
			c.CutRequests()
			w.pass(away)
			c.Resume()
		case 3:
			w.Stop()
			w.pass(away)
			w.Start()
		case 4:
			w.NewLeader()
		case 5:
			w.Compact(0)
		case 6:
			w.CutWatches()
		case 7:
			w.CancelWatches("etcdserver: mvcc: made for a test")
		case 8:
			c.Reset()
		case 9:
			for _, kv := range w.Keys("") {
				w.MissDelete(string(kv.Key))
			}
		}
		w.pass(time.Duration(r.Int64N(int64(2 * time.Second))))
	}
	w.Intercept(nil)
}
