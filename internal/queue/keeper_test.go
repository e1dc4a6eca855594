package queue

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	lw "github.com/etcdlock/etcdlock/internal/watch"
)

// manyHolds is more than what a keeper does at a time.
const manyHolds = 10*mostRead + 1

// guarded is a session with guarded keys.
type guarded struct {
	*rig
	client  *simetcd.Client
	streams *mutable
	queues  *Queues
	keeper  *Keeper
	entries []*Entry
	guards  []*Guard
	told    chan string // "i evicted" and the like
}

type hearer struct {
	of   *guarded
	name string
}

func (h *hearer) Evicted()            { h.of.told <- h.name + " evicted" }
func (h *hearer) Contended()          { h.of.told <- h.name + " contended" }
func (h *hearer) Unguarded(err error) { h.of.told <- h.name + " unguarded: " + err.Error() }

// guard has the keys of n names guarded.
func (r *rig) guard(n int) *guarded {
	s := &guarded{rig: r, client: r.Client("a"), told: make(chan string, 10*n)}
	s.streams = &mutable{WatchClient: s.client.Remote()}
	spawn := func(f func()) bool { go f(); return true }
	s.queues = newQueues(r.ctx, s.client.KV, lw.New(r.ctx, s.client.Watcher, s.streams, spawn))
	s.keeper = s.queues.Keeper(func(run func()) { go run() })
	lease := r.GrantLease(time.Hour)
	for i := range n {
		q := s.queues.Queue(fmt.Sprint("n", i))
		e, _, err := q.Enter(r.ctx, Want{Lease: lease, Value: "v"})
		require.NoError(r, err)
		s.entries = append(s.entries, e)
		s.guards = append(s.guards, s.keeper.Guard(e, false, &hearer{s, fmt.Sprint(i)}))
	}
	return s
}

func (s *guarded) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// hears checks that a report has come.
func (s *guarded) hears(report string) {
	s.Helper()
	require.NotEmpty(s, s.told)
	require.Equal(s, report, <-s.told)
}

// end stops all guards. The goroutine of the keeper ends.
func (s *guarded) end() {
	for _, g := range s.guards {
		g.Stop()
	}
	s.pass(time.Minute)
	require.False(s, s.keeper.running)
	require.Empty(s, s.told)
}

func TestAKeeperSendsFewRequestsForManyHolds(t *testing.T) {
	simulate(t, func(r *rig) {
		before := len(simetcd.Goroutines())
		s := r.guard(manyHolds)
		s.pass(time.Second)
		require.Less(r, len(simetcd.Goroutines())-before, 20, "a goroutine for each hold")
		require.Equal(r, manyHolds, s.client.Count(simetcd.Watch))
		s.client.ResetCounts()
		s.pass(10 * holdResync)
		require.Zero(r, s.client.Count(simetcd.Watch, simetcd.Range))
		least := 9 * manyHolds / mostRead
		require.GreaterOrEqual(r, s.client.Count(simetcd.TxnReadOnly), least)
		require.LessOrEqual(r, s.client.Count(simetcd.TxnReadOnly), 2*least)

		// All watches are opened again, and what happened meanwhile is read.
		s.client.ResetCounts()
		opens := &counting{lean: s.queues.watcher.(lean), Watcher: s.queues.watcher}
		s.queues.watcher = opens
		r.CutWatches()
		r.DeleteKey(s.entries[7].Key)
		s.pass(time.Second)
		s.hears("7 evicted")
		require.LessOrEqual(r, s.client.Count(simetcd.Watch), manyHolds)
		require.LessOrEqual(r, s.client.Count(simetcd.TxnReadOnly), 2*manyHolds/mostRead)
		require.LessOrEqual(r, int(opens.most.Load()), mostOpening)
		r.DeleteKey(s.entries[8].Key)
		s.pass(100 * time.Millisecond)
		s.hears("8 evicted")
		s.end()
	})
}

// traps A21, C12
func TestAGuardFindsADeletionThatItsWatchDidNotReport(t *testing.T) {
	simulate(t, func(r *rig) {
		s := r.guard(2)
		s.pass(time.Second)
		s.streams.mute()
		r.DeleteKey(s.entries[0].Key)
		s.pass(holdResync - 2*time.Second)
		require.Empty(r, s.told)
		s.pass(2 * time.Second)
		s.hears("0 evicted")
		r.CancelWatches("to have another one opened")
		s.pass(time.Second)
		r.DeleteKey(s.entries[1].Key)
		s.pass(100 * time.Millisecond)
		s.hears("1 evicted")
		s.end()
	})
}

func TestAKeyThatMayNotBeReadConcernsItsHoldOnly(t *testing.T) {
	simulate(t, func(r *rig) {
		s := r.guard(10)
		s.pass(time.Second)
		r.Intercept(func(c simetcd.Call) simetcd.Action {
			if req, ok := c.Req.(*pb.TxnRequest); ok {
				for _, op := range req.Success {
					if string(op.GetRequestRange().GetKey()) == s.entries[3].Key {
						return simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}
					}
				}
			}
			return simetcd.Action{}
		})
		s.pass(holdResync)
		require.Contains(r, <-s.told, "3 unguarded: ")
		s.streams.mute()
		r.DeleteKey(s.entries[4].Key)
		s.pass(holdResync)
		s.hears("4 evicted")
		s.end()
	})
}

// A request about one key that is not answered delays no news of another key.
func TestAReadingThatHangsDelaysNoNews(t *testing.T) {
	simulate(t, func(r *rig) {
		s := r.guard(3)
		s.pass(time.Second)
		r.Intercept(func(c simetcd.Call) simetcd.Action {
			return simetcd.Action{DropRequest: c.Kind == simetcd.TxnReadOnly}
		})
		s.pass(holdResync)
		r.DeleteKey(s.entries[1].Key)
		s.pass(10 * time.Millisecond)
		s.hears("1 evicted")
		r.Intercept(nil)
		s.end()
	})
}

// counting is a lean watcher that counts the calls under way.
type counting struct {
	lean
	clientv3.Watcher
	now, most atomic.Int32
	takes     time.Duration // each call, at least
}

func (c *counting) OpenTo(ctx context.Context, bound time.Duration, sink lw.Sink, key string, opts ...clientv3.OpOption) *lw.Watch {
	c.most.Store(max(c.most.Load(), c.now.Add(1)))
	defer c.now.Add(-1)
	time.Sleep(c.takes)
	return c.lean.OpenTo(ctx, bound, sink, key, opts...)
}

// hasty is a lean watcher by which a watch ends before the call that opens it returns.
type hasty struct {
	lean
	clientv3.Watcher
	left int // how many watches do
}

func (h *hasty) OpenTo(ctx context.Context, bound time.Duration, sink lw.Sink, key string, opts ...clientv3.OpOption) *lw.Watch {
	w := h.lean.OpenTo(ctx, bound, sink, key, opts...)
	if h.left--; h.left >= 0 {
		w.Stop()
		sink.Ended()
		time.Sleep(time.Millisecond)
	}
	return w
}

func TestAGuardHearsOfTheEndOfAWatchThatIsBeingOpened(t *testing.T) {
	simulate(t, func(r *rig) {
		s := r.guard(1)
		s.pass(time.Second)
		inner := s.queues.watcher
		s.queues.watcher = &hasty{inner.(lean), inner, 2}
		r.CutWatches()
		s.pass(time.Second)
		r.DeleteKey(s.entries[0].Key)
		s.pass(10 * time.Millisecond)
		s.hears("0 evicted")
		s.end()
	})
}

// The goroutine of a keeper ends with the life of the queues, and its watches end in etcd.
func TestAKeeperEndsWithItsSession(t *testing.T) {
	for _, lean := range []bool{true, false} {
		simulate(t, func(r *rig) {
			c := r.Client("a")
			watcher := c.Watcher
			if lean {
				watcher = lw.New(r.ctx, c.Watcher, c.Remote(), func(f func()) bool { go f(); return true })
			}
			life, end := context.WithCancel(r.ctx)
			qs := newQueues(life, c.KV, watcher)
			over := make(chan struct{})
			k := qs.Keeper(func(run func()) {
				go func() {
					defer close(over)
					run()
				}()
			})
			q := qs.Queue("q")
			o := &ear{make(chan error, 1), func() {}}
			g := k.Guard(r.enter(q), false, o)
			time.Sleep(time.Second)
			require.Equal(r, 1, c.Count(simetcd.Watch))
			end()
			<-over
			g.Stop()
			time.Sleep(time.Second)
			if lean { // the client ends the stream with its last watch
				require.Equal(r, 1, c.Count(simetcd.WatchCancel))
			}
			require.Empty(r, o.evicted)
		})
	}
}

// A guard that waits for its turn to open a watch, and is told to keep its key meanwhile, opens one.
func TestAGuardOpensOneWatchAtATime(t *testing.T) {
	simulate(t, func(r *rig) {
		s := r.guard(3 * mostOpening)
		s.pass(time.Second)
		s.client.ResetCounts()
		s.queues.watcher = &counting{lean: s.queues.watcher.(lean), Watcher: s.queues.watcher, takes: 50 * time.Millisecond}
		r.CutWatches()
		s.pass(40 * time.Millisecond)
		for _, g := range s.guards { // some wait for their turn
			g.Keep()
		}
		s.pass(time.Second)
		for _, g := range s.guards {
			g.Stop()
		}
		s.pass(time.Second)
		require.Equal(r, s.client.Count(simetcd.Watch), s.client.Count(simetcd.WatchCancel))
		s.end()
	})
}

// A guard that is stopped at any time leaves no watch, and reports no other entry that came later.
func TestAGuardThatIsStoppedLeavesNothing(t *testing.T) {
	for after := range 40 {
		simulate(t, func(r *rig) {
			s := r.guard(1)
			g := s.guards[0]
			time.Sleep(time.Duration(after) * 100 * time.Microsecond)
			if after%2 == 0 {
				g.Keep()
			}
			time.Sleep(time.Duration(after%7) * 100 * time.Microsecond)
			g.Stop()
			s.pass(time.Second)
			require.Equal(r, s.client.Count(simetcd.Watch), s.client.Count(simetcd.WatchCancel))
			s.end()
		})
	}
}
