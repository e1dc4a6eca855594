package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	logged "go.uber.org/zap/zaptest/observer"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// anyHold is what all kinds of holds have.
type anyHold interface {
	Err() error
	Done() <-chan struct{}
	Token() int64
}

// waysToHold are all ways to hold a name, on a session, for as long as ctx allows to wait.
var waysToHold = map[string]func(ctx context.Context, s *Session) (anyHold, error){
	"lock":   func(ctx context.Context, s *Session) (anyHold, error) { return NewMutex(s, "x").Lock(ctx) },
	"writer": func(ctx context.Context, s *Session) (anyHold, error) { return NewRWMutex(s, "x").Lock(ctx) },
	"reader": func(ctx context.Context, s *Session) (anyHold, error) { return NewRWMutex(s, "x").RLock(ctx) },
	"permit": func(ctx context.Context, s *Session) (anyHold, error) { return NewSemaphore(s, "x", 1).Acquire(ctx, 1) },
	"all": func(ctx context.Context, s *Session) (anyHold, error) {
		return NewMultiMutex(s, []string{"x", "y"}).Lock(ctx)
	},
	"leader": func(ctx context.Context, s *Session) (anyHold, error) { return NewElection(s, "x").Campaign(ctx, "v") },
}

// rollback is one way in which etcd loses data.
type rollback struct {
	w    *world
	snap *simetcd.Snapshot // nil: all of it
}

// eachRollback runs a test with an etcd that starts with empty data, and with one that is
// restored from a snapshot. prepare is what is in that; more is written before the rollback.
func eachRollback(t *testing.T, prepare func(w *world), test func(w *world, r rollback)) {
	for _, kind := range []string{"empty", "restored"} {
		t.Run(kind, func(t *testing.T) {
			simulate(t, func(w *world) {
				prepare(w)
				r := rollback{w: w}
				if kind == "restored" {
					r.snap = w.Snapshot()
				}
				for range 100 {
					w.PutKey("other", "x", clientv3.NoLease)
				}
				test(w, r)
			})
		})
	}
}

// happens stops etcd, and starts it with other data two seconds later.
func (r rollback) happens() {
	r.w.Stop()
	r.w.pass(2 * time.Second)
	r.w.Restore(r.snap, simetcd.Restored{})
	r.w.Start()
}

// untilLost waits for the end of a hold that a rollback ends.
func (w *world) untilLost(h anyHold, within time.Duration) {
	w.Helper()
	select {
	case <-h.Done():
	case <-time.After(within):
		require.FailNow(w, "it is still held")
	}
	require.ErrorIs(w, h.Err(), ErrLost)
	require.ErrorIs(w, h.Err(), ErrRolledBack)
}

// report R5
func TestARollbackEndsEachHold(t *testing.T) {
	for kind, acquire := range waysToHold {
		for _, age := range []time.Duration{0, 100 * time.Millisecond, 5 * time.Second} {
			t.Run(fmt.Sprint(kind, " ", age), func(t *testing.T) {
				eachRollback(t, func(w *world) { w.session("a") }, func(w *world, r rollback) {
					h, err := acquire(w.ctx, w.sessions[0])
					require.NoError(w, err)
					w.pass(age)
					r.happens()
					other, err := acquire(w.timeout(time.Second), w.session("b"))
					require.NoError(w, err, "nobody holds it in the data of now")
					require.Less(w, other.Token(), h.Token())
					w.untilLost(h, ttl/2)
					w.pass(2 * ttl)
					require.NoError(w, other.Err(), "only a hold from before is lost")

					_, err = acquire(w.timeout(5*time.Second), w.sessions[0])
					if kind == "reader" {
						require.NoError(w, err)
						return
					}
					require.ErrorIs(w, err, context.DeadlineExceeded, "the other one has it")
				})
			})
		}
	}
}

// report R5
func TestARollbackEndsEachWaitAndTheSessionGoesOn(t *testing.T) {
	for kind, acquire := range waysToHold {
		if kind == "reader" {
			continue // readers do not wait for each other
		}
		for _, waited := range []time.Duration{100 * time.Millisecond, 30 * time.Second} {
			for _, ahead := range []int{1, 12} { // in a crowd each waiter watches the one ahead of it
				t.Run(fmt.Sprint(kind, " ", waited, " ", ahead), func(t *testing.T) {
					prepare := func(w *world) {
						for i := range ahead {
							w.session(fmt.Sprint("a", i))
						}
						w.session("w")
					}
					eachRollback(t, prepare, func(w *world, r rollback) {
						h, err := acquire(w.ctx, w.sessions[0])
						require.NoError(w, err)
						var waits []*pending[anyHold]
						for _, s := range w.sessions[1:] {
							waits = append(waits, start(w, func(ctx context.Context) (anyHold, error) { return acquire(ctx, s) }))
							w.pass(10 * time.Millisecond)
						}
						w.pass(waited)
						r.happens()
						back := time.Now()
						for _, wait := range waits {
							wait.fails(ErrLost, ErrRolledBack)
							require.Less(w, wait.at.Sub(back), ttl)
						}
						w.untilLost(h, ttl)
						var last anyHold
						for _, s := range w.sessions {
							next, err := acquire(w.timeout(10*time.Second), s)
							require.NoError(w, err)
							require.NotZero(w, next.Token())
							if last != nil {
								require.Greater(w, next.Token(), last.Token())
							}
							last = next
							release(w, next)
						}
					})
				})
			}
		}
	}
}

// report R5: what a session remembers of queues from before is of no use, and does no harm.
func TestARollbackBetweenTwoHolds(t *testing.T) {
	for kind, acquire := range waysToHold {
		for _, rest := range []time.Duration{0, 500 * time.Millisecond, 20 * time.Second} {
			t.Run(fmt.Sprint(kind, " ", rest), func(t *testing.T) {
				eachRollback(t, func(w *world) { w.session("a"); w.session("b") }, func(w *world, r rollback) {
					for range 3 {
						var next *pending[anyHold]
						for _, s := range w.sessions { // which wait for each other, and keep watches for the next time
							h, err := acquire(w.ctx, s)
							require.NoError(w, err)
							next = start(w, func(ctx context.Context) (anyHold, error) { return acquire(ctx, w.sessions[0]) })
							w.pass(20 * time.Millisecond)
							release(w, h)
							release(w, next.get())
						}
					}
					w.pass(rest)
					r.happens()
					var last int64
					began := time.Now()
					for _, s := range []*Session{w.sessions[0], w.sessions[1], w.session("c"), w.sessions[0]} {
						h, err := acquire(w.timeout(ttl), s)
						for n := 0; err != nil && n < 3; n++ {
							require.ErrorIs(w, err, ErrLost)
							h, err = acquire(w.timeout(ttl), s)
						}
						require.NoError(w, err)
						require.Greater(w, h.Token(), last)
						last = h.Token()
						release(w, h)
					}
					require.Less(w, time.Since(began), ttl)
				})
			})
		}
	}
}

func release(w *world, h anyHold) {
	w.Helper()
	switch h := h.(type) {
	case interface{ Unlock(context.Context) error }:
		require.NoError(w, h.Unlock(w.ctx))
	case *Permit:
		require.NoError(w, h.Release(w.ctx))
	case *Term:
		require.NoError(w, h.Resign(w.ctx))
	}
}

// report R5: a key that stands again in the data of now, though its lock was unlocked, does not
// keep others out for as long as the session lives that had it.
func TestALockThatARollbackBringsBackGoesWithItsLease(t *testing.T) {
	simulate(t, func(w *world) {
		a := w.session("a")
		l := w.lock(NewMutex(a, "x"))
		snap := w.Snapshot()
		require.NoError(w, l.Unlock(w.ctx))
		for range 100 {
			w.PutKey("other", "x", clientv3.NoLease)
		}
		w.lock(NewMutex(a, "y")) // so that something is in use
		rollback{w, snap}.happens()
		began := time.Now()
		w.lock(NewMutex(w.session("b"), "x"))
		require.Less(w, time.Since(began), ttl)
	})
}

// report R5
func TestObserversBeginAgainAfterARollback(t *testing.T) {
	for _, way := range []struct {
		name string
		opts func(c *simetcd.Client) []SessionOption
	}{
		{"by the client's watches", func(*simetcd.Client) []SessionOption { return nil }},
		{"by watches of its own", func(c *simetcd.Client) []SessionOption { return []SessionOption{watchOn(c)} }},
	} {
		t.Run(way.name, func(t *testing.T) {
			prepare := func(w *world) {
				w.session("o", way.opts(w.Client("o"))...)
				w.session("a")
			}
			eachRollback(t, prepare, func(w *world, r rollback) {
				s := w.sessions[0]
				var monitor Monitor
				var told []string
				run := w.run(NewElection(w.session("never"), "e"), untilOver, WithMonitor(&monitor), WithHealthCheck(HealthCheck{Interval: time.Second, Failures: 1, Check: neverWell}),
					WithOnLeader(func(l Leader) { told = append(told, l.Value) }))
				defer run.end()
				o := w.observe(NewElection(s, "e"), 0)
				term := w.campaign(NewElection(w.sessions[1], "e"), "A")
				w.pass(time.Second)
				r.happens()
				b := w.session("b")
				next := w.campaign(NewElection(b, "e"), "B")
				require.Less(w, next.Token(), term.Token())
				w.pass(15 * time.Second)
				late := w.observe(NewElection(s, "e"), 0)
				w.pass(time.Second)
				_ = late
				seen := o.all()
				require.Equal(w, "B", seen[len(seen)-1].Value)
				require.Equal(w, next.CreateRevision(), seen[len(seen)-1].CreateRevision)
				require.Equal(w, []string{"B"}, late.saw())
				require.Equal(w, "B", monitor.Status().Leader.Value)
				require.Equal(w, "B", told[len(told)-1])
				require.NoError(w, next.Proclaim(w.ctx, "B2"))
				w.pass(time.Second)
				require.Equal(w, "B2", monitor.Status().Leader.Value)
				require.Equal(w, []string{"B", "B2"}, late.saw())
			})
		})
	}
}

func untilOver(ctx context.Context, _ *Term) error {
	<-ctx.Done()
	return nil
}

// report R5
func TestARollbackIsToldOnce(t *testing.T) {
	eachRollback(t, func(*world) {}, func(w *world, r rollback) {
		core, logs := logged.New(zapcore.ErrorLevel)
		s := w.session("a", WithLogger(zap.New(core)))
		w.lock(NewMutex(s, "x"))
		o := w.observe(NewElection(s, "e"), 0)
		wait := start(w, func(ctx context.Context) (*Lock, error) { return NewMutex(s, "x").Lock(ctx) })
		w.pass(time.Second)
		r.happens()
		wait.fails(ErrRolledBack)
		w.pass(time.Minute)
		w.lock(NewMutex(s, "x"))
		require.Len(w, logs.All(), 1)
		require.Contains(w, logs.All()[0].Message, "docs/operating.md")
		require.NotEmpty(w, o.saw())
	})
}

// report R5: with a bumped revision nothing goes back, and a hold continues if its key is in the
// backup. With another cluster token everything starts over.
func TestARestoreWithABumpedRevision(t *testing.T) {
	for _, cluster := range []uint64{0, 4711} {
		t.Run(fmt.Sprint(cluster), func(t *testing.T) {
			simulate(t, func(w *world) {
				a := w.session("a")
				kept := w.lock(NewMutex(a, "kept"))
				snap := w.Snapshot()
				gone := w.lock(NewMutex(a, "gone"))
				w.pass(5 * time.Second)
				w.Stop()
				w.pass(2 * time.Second)
				w.Restore(snap, simetcd.Restored{BumpRevision: 1_000_000, MarkCompacted: true, Cluster: cluster})
				w.Start()
				next := w.lock(NewMutex(w.session("b"), "gone"))
				require.Greater(w, next.Token(), gone.Token())
				select {
				case <-gone.Done():
				case <-time.After(2 * ttl):
					require.Fail(w, "two hold")
				}
				require.ErrorIs(w, gone.Err(), ErrLost)
				w.pass(time.Minute)
				if cluster == 0 {
					require.ErrorIs(w, gone.Err(), ErrEvicted)
					require.NoError(w, kept.Err())
				} else {
					require.ErrorIs(w, gone.Err(), ErrRolledBack)
					require.ErrorIs(w, kept.Err(), ErrRolledBack)
				}
			})
		})
	}
}

func neverWell(context.Context) error { return errors.New("not well") }

// report R5: a limit that was read before says nothing, even if its key has the same revision.
func TestALimitFromBeforeARollbackIsReadAgain(t *testing.T) {
	simulate(t, func(w *world) {
		sem := NewSemaphore(w.session("a"), "x", 1)
		limit := func(n int) {
			s := w.session(fmt.Sprint("admin", n))
			require.NoError(w, NewSemaphore(s, "x", 1).SetLimit(w.ctx, n))
			require.NoError(w, s.Close(w.ctx))
		}
		snap := w.Snapshot()
		limit(3)
		permit, err := sem.Acquire(w.ctx, 3)
		require.NoError(w, err)
		require.NoError(w, permit.Release(w.ctx))
		before := w.Get(limitKey("x")).ModRevision
		w.PutKey("other", "x", clientv3.NoLease)

		rollback{w, snap}.happens()
		limit(2)
		require.Equal(w, before, w.Get(limitKey("x")).ModRevision)
		for err = ErrLost; errors.Is(err, ErrLost); {
			_, err = sem.Acquire(w.timeout(time.Second), 3)
		}
		require.ErrorIs(w, err, ErrInvalidPermits)
	})
}
