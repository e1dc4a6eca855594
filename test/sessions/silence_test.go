package sessions

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/tests/v3/framework/integration"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/test/internal/cluster"
)

// report L1: a fleet that contends on a healthy etcd logs nothing at WARN, neither by etcd's client
// nor by the sessions, which use its logger. Every primitive is in it, and what is cancelled while
// all is well: waits and attempts that callers give up, observers that leave, candidates that go.
func TestHealthyContentionIsSilent(t *testing.T) {
	f := newFixtureOf(t, &integration.ClusterConfig{Size: 1})
	core, logs := observer.New(zapcore.WarnLevel)
	ctx := f.Within(4 * time.Second)
	var all sync.WaitGroup
	for i := range 4 {
		c, err := clientv3.New(clientv3.Config{Endpoints: f.Cluster.Endpoints(), DialTimeout: 5 * time.Second, Logger: zap.New(core)})
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		if i == 3 {
			c.KV, c.Watcher, c.Lease = namespace.NewKV(c.KV, ""), namespace.NewWatcher(c.Watcher, ""), namespace.NewLease(c.Lease, "")
		}
		s := f.Session(c, time.Minute) // on a busy machine a renewal may take its time
		for kind, act := range contention(s) {
			rnd := rand.New(rand.NewPCG(uint64(i), 0))
			all.Go(func() {
				for ctx.Err() == nil {
					// A part of the callers gives up: at once, soon, late.
					bound := cluster.Long
					if rnd.IntN(4) == 0 {
						bound = time.Duration(rnd.IntN(4)) * time.Duration(rnd.IntN(10_000)) * time.Microsecond
					}
					within, cancel := context.WithTimeout(ctx, bound)
					if err := act(within, rnd); err != nil && !errors.Is(err, etcdlock.ErrLocked) {
						select {
						case <-within.Done():
						case <-time.After(time.Second):
							assert.NoError(t, err, kind)
						}
					}
					cancel()
					time.Sleep(time.Duration(rnd.IntN(5000)) * time.Microsecond)
				}
			})
		}
	}
	all.Wait()
	for _, line := range logs.All()[:min(logs.Len(), 10)] {
		t.Log(line.LoggerName, line.Message, line.ContextMap())
	}
	require.Zero(t, logs.Len(), "lines at WARN and above")
}

// contention is what the sessions of a fleet do, by name; each returns when it holds nothing.
func contention(s *etcdlock.Session) map[string]func(context.Context, *rand.Rand) error {
	release := context.Background()
	work := func(rnd *rand.Rand) { time.Sleep(time.Duration(rnd.IntN(3000)) * time.Microsecond) }
	mutex := func(name string, opts ...etcdlock.MutexOption) func(context.Context, *rand.Rand) error {
		m := etcdlock.NewMutex(s, name, opts...)
		return func(ctx context.Context, rnd *rand.Rand) error {
			lock, err := m.Lock(ctx)
			if err != nil {
				return err
			}
			if work(rnd); rnd.IntN(10) == 0 {
				time.Sleep(300 * time.Millisecond) // until the own key is watched
			}
			return lock.Unlock(release)
		}
	}
	try := etcdlock.NewMutex(s, "silence/mutex")
	rw := etcdlock.NewRWMutex(s, "silence/rw")
	sem := etcdlock.NewSemaphore(s, "silence/sem", 3)
	e := etcdlock.NewElection(s, "silence/election")
	return map[string]func(context.Context, *rand.Rand) error{
		"mutex":     mutex("silence/mutex"),
		"strict":    mutex("silence/strict", etcdlock.WithTimeSlice(0)),
		"slice":     mutex("silence/slice", etcdlock.WithTimeSlice(50*time.Millisecond)),
		"retention": mutex("silence/retention", etcdlock.WithRetention(20*time.Millisecond)),
		"try": func(ctx context.Context, rnd *rand.Rand) error {
			lock, err := try.TryLock(ctx)
			if err != nil {
				return err
			}
			work(rnd)
			return lock.Unlock(release)
		},
		"read": func(ctx context.Context, rnd *rand.Rand) error {
			lock, err := rw.RLock(ctx)
			if err != nil {
				return err
			}
			work(rnd)
			return lock.Unlock(release)
		},
		"write": func(ctx context.Context, rnd *rand.Rand) error {
			lock, err := rw.Lock(ctx)
			if err != nil {
				return err
			}
			work(rnd)
			return lock.Unlock(release)
		},
		"semaphore": func(ctx context.Context, rnd *rand.Rand) error {
			p, err := sem.Acquire(ctx, 1+rnd.IntN(3))
			if err != nil {
				return err
			}
			work(rnd)
			return p.Release(release)
		},
		"all": func(ctx context.Context, rnd *rand.Rand) error {
			first := rnd.IntN(3)
			set, err := etcdlock.NewMultiMutex(s, []string{fmt.Sprint("silence/all/", first), fmt.Sprint("silence/all/", first+1)}).Lock(ctx)
			if err != nil {
				return err
			}
			work(rnd)
			return set.Unlock(release)
		},
		"election": func(ctx context.Context, rnd *rand.Rand) error {
			term, err := e.Campaign(ctx, "v")
			if err != nil {
				return err
			}
			if work(rnd); rnd.IntN(2) == 0 {
				_ = term.Proclaim(ctx, "w")
			}
			return term.Resign(release)
		},
		"run": func(ctx context.Context, rnd *rand.Rand) error {
			ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			defer cancel()
			_ = e.Run(ctx, "r", func(ctx context.Context, _ *etcdlock.Term) error {
				<-ctx.Done()
				return nil
			})
			return nil
		},
		"observe": func(ctx context.Context, rnd *rand.Rand) error {
			ctx, cancel := context.WithTimeout(ctx, time.Duration(rnd.IntN(20))*time.Millisecond)
			defer cancel()
			for _, err := range e.Observe(ctx) {
				if err != nil || rnd.IntN(3) == 0 {
					break
				}
			}
			return nil
		},
		"look": func(ctx context.Context, _ *rand.Rand) error {
			_, err := try.Queue(ctx)
			return err
		},
	}
}
