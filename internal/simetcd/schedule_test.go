package simetcd_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// schedule has three clients take etcd's own mutex five times each while things go wrong, and returns what happened.
func schedule(seed uint64) string {
	srv := simetcd.New(simetcd.Config{Seed: seed})
	defer srv.Close()
	start := time.Now()
	var mu sync.Mutex
	var trace strings.Builder
	write := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(&trace, "%v ", time.Since(start))
		fmt.Fprintf(&trace, format+"\n", args...)
	}
	srv.OnEvent(func(rev int64, ev *mvccpb.Event) { write("%d %v %s", rev, ev.Type, ev.Kv.Key) })
	srv.Intercept(func(call simetcd.Call) simetcd.Action {
		write("%s %v %d", call.Client, call.Kind, call.N)
		if (uint64(call.N)*7+seed)%5 == 0 {
			return simetcd.Action{DelayReply: 100 * time.Millisecond}
		}
		return simetcd.Action{}
	})
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			time.Sleep(time.Duration(i) * time.Millisecond)
			c := srv.Client(string(rune('a' + i)))
			for round := range 5 {
				if err := once(c); err != nil {
					write("%s failed: %v", c.Name(), err)
				}
				if round == i {
					c.Reset()
				}
			}
		})
	}
	time.Sleep(200 * time.Millisecond)
	srv.CutWatches()
	srv.Client("b").Cut()
	time.Sleep(3 * time.Second)
	srv.Client("b").Resume()
	srv.Stop()
	time.Sleep(time.Second)
	srv.Start()
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	return trace.String()
}

func once(c *simetcd.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	s, err := concurrency.NewSession(c.Client, concurrency.WithTTL(2), concurrency.WithContext(ctx))
	if err != nil {
		return err
	}
	defer s.Close()
	m := concurrency.NewMutex(s, "lock")
	if err := m.Lock(ctx); err != nil {
		return err
	}
	time.Sleep(50 * time.Millisecond)
	return m.Unlock(ctx)
}

func TestASeedGivesTheSameRunEachTime(t *testing.T) {
	different := make(map[string]bool)
	for seed := range uint64(20) {
		var first string
		for i := range 5 {
			synctest.Test(t, func(t *testing.T) {
				trace := schedule(seed)
				if i == 0 {
					first = trace
					different[trace] = true
				}
				require.Equal(t, first, trace, "seed %d, run %d", seed, i)
			})
		}
	}
	require.Len(t, different, 20, "each seed has a run of its own")
}

// BenchmarkSchedule says how many simulated schedules go into a second.
func BenchmarkSchedule(b *testing.B) {
	seed := uint64(0)
	for b.Loop() {
		seed++
		synctest.Test(&testing.T{}, func(*testing.T) { schedule(seed) })
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "schedules/s")
}
