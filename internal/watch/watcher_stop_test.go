package watch

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func TestAStoppedWatchIsCancelledAndTellsNothingMore(t *testing.T) {
	simulate(t, func(r *rig) {
		w, other := r.open("k"), r.open("k")
		late := r.put("k") // it is on its way
		w.Stop()
		w.Stop()
		r.over(w)
		r.tells(other, late)
		require.Equal(r, 1, r.client.Count(simetcd.WatchCancel))
	})
}

func TestTheEndOfItsContextStopsAWatch(t *testing.T) {
	simulate(t, func(r *rig) {
		ctx, cancel := context.WithCancel(r.ctx)
		w := r.Open(ctx, bound, "k")
		cancel()
		r.over(w)
		require.Equal(r, 1, r.client.Count(simetcd.WatchCancel))
		require.Nil(r, r.Open(ctx, bound, "k"))
		settle()
		require.Equal(r, r.client.Count(simetcd.Watch), r.client.Count(simetcd.WatchCancel), "one that nobody has is left in etcd")
	})
}

func TestAWatchThatIsGivenUpBeforeItsAnswerIsCancelled(t *testing.T) {
	simulate(t, func(r *rig) {
		other := r.open("z")
		ctx, cancel := context.WithTimeout(r.ctx, time.Microsecond)
		defer cancel()
		require.Nil(r, r.Open(ctx, bound, "k"))
		settle()
		require.Equal(r, 2, r.client.Count(simetcd.Watch))
		require.Equal(r, 1, r.client.Count(simetcd.WatchCancel))
		r.tells(other)
		r.streams(1, 1)
	})
}

func TestAWatchThatIsGivenUpBeforeItsTurnIsNotAskedFor(t *testing.T) {
	simulate(t, func(r *rig) {
		r.set(func() { r.blind = true })
		var all sync.WaitGroup
		all.Go(func() { r.Open(r.ctx, bound, "z") })
		time.Sleep(time.Microsecond)
		ctx, cancel := context.WithTimeout(r.ctx, time.Microsecond)
		defer cancel()
		require.Nil(r, r.Open(ctx, bound, "k"))
		all.Wait()
		settle()
		require.Equal(r, 1, r.client.Count(simetcd.Watch))
		require.Zero(r, r.client.Count(simetcd.WatchCancel))
	})
}

func TestAStreamWithoutAWatchEndsAfterAWhile(t *testing.T) {
	simulate(t, func(r *rig) {
		r.open("k").Stop()
		time.Sleep(linger - time.Second)
		w := r.open("k")
		time.Sleep(2 * linger)
		r.streams(1, 1)
		w.Stop()
		time.Sleep(linger + time.Second)
		r.streams(1, 0)
		r.tells(r.open("k"), r.put("k"))
		r.streams(2, 1)
	})
}

func TestNothingBlocksOnAStreamThatTakesNothing(t *testing.T) {
	simulate(t, func(r *rig) {
		w := r.open("k")
		r.set(func() { r.stuck = true })
		began := time.Now()
		w.Stop()
		require.Zero(r, time.Since(began))
		require.Nil(r, r.Open(r.ctx, bound, "k"))
		require.Equal(r, bound, time.Since(began))
		r.set(func() { r.stuck = false })
		r.tells(r.open("k"), r.put("k"))
		r.streams(2, 1)
	})
}

func TestWatchesEndWithTheSession(t *testing.T) {
	simulate(t, func(r *rig) {
		w := r.open("k")
		r.end()
		r.over(w)
		r.tasks.Wait()
		began := time.Now()
		require.Nil(r, r.Open(r.ctx, bound, "k"))
		require.Zero(r, time.Since(began))
		w.Stop()
		r.streams(1, 0)
	})
}

// trap E1: a stream has its token for good.
func TestAStreamWhoseTokenRanOutIsReplaced(t *testing.T) {
	for _, c := range []struct {
		refusal error
		streams int
	}{
		{rpctypes.ErrGRPCInvalidAuthToken, 2}, {rpctypes.ErrGRPCAuthOldRevision, 2}, {rpctypes.ErrGRPCUserEmpty, 2}, {rpctypes.ErrGRPCPermissionDenied, 1},
	} {
		simulate(t, func(r *rig) {
			old := r.open("k")
			r.Intercept(func(simetcd.Call) simetcd.Action { return simetcd.Action{Err: c.refusal} })
			require.Nil(r, r.Open(r.ctx, bound, "k"))
			r.Intercept(nil)
			next := r.open("k")
			r.streams(c.streams, c.streams)
			rev := r.put("k")
			r.tells(old, rev)
			r.tells(next, rev)
		})
	}
}

// crowd opens n watches at once.
func (r *rig) crowd(n int) {
	watches := make([]*Watch, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { watches[i] = r.Open(r.ctx, bound, fmt.Sprint("k/", i)) })
	}
	all.Wait()
	for i, w := range watches {
		require.NotNil(r, w)
		r.tells(w, r.put(fmt.Sprint("k/", i)))
	}
}

// All watches of a session are opened again at once when their stream breaks. They wait for
// their turn, for longer than one has to be answered, and do not take the stream for dead.
func TestFewCreationsAreUnderWayAtOnce(t *testing.T) {
	simulate(t, func(r *rig) {
		r.client.SetLatency(50*time.Millisecond, 50*time.Millisecond)
		r.crowd(2000)
		require.Equal(r, window, r.most)
		r.streams(1, 1)
	})
}

// etcd's proxy picks the IDs, and answers in any order.
func TestAServerThatPicksTheIDsIsAskedForOneAtATime(t *testing.T) {
	simulate(t, func(r *rig) {
		r.set(func() { r.blind = true })
		r.client.SetLatency(10*time.Millisecond, 10*time.Millisecond)
		r.crowd(150)
		require.Equal(r, 1, r.most)
		r.streams(1, 1)
	})
}

func TestStreamsThatComeToNothingAreOpenedMoreAndMoreSlowly(t *testing.T) {
	refused := func(simetcd.Call) simetcd.Action { return simetcd.Action{Err: rpctypes.ErrGRPCInvalidAuthToken} }
	for _, of := range []func(r *rig, bad bool){
		func(r *rig, bad bool) { r.set(func() { r.broken = bad }) },
		func(r *rig, bad bool) {
			if r.Intercept(nil); bad {
				r.Intercept(refused)
			}
		},
	} {
		simulate(t, func(r *rig) {
			of(r, true)
			ctx, cancel := context.WithTimeout(r.ctx, 10*time.Second)
			defer cancel()
			var all sync.WaitGroup
			for range 100 {
				all.Go(func() {
					for ctx.Err() == nil {
						if r.Open(ctx, bound, "k") != nil {
							r.Error("it was opened")
						}
						time.Sleep(time.Millisecond)
					}
				})
			}
			all.Wait()
			settle()
			opened, open := r.opened()
			require.LessOrEqual(r, open, 1)
			require.Less(r, opened, 50)
			require.Greater(r, opened, 20)

			of(r, false)
			began := time.Now()
			r.open("k")
			require.Less(r, time.Since(began), bound)
			r.client.Reset()
			settle()
			began = time.Now()
			r.open("k")
			require.Less(r, time.Since(began), firstPause/2, "the one before was fine")
		})
	}
}

func TestAnAnswerThatMakesNoSenseEndsTheStream(t *testing.T) {
	for _, twist := range []func(*pb.WatchResponse){
		func(resp *pb.WatchResponse) { resp.WatchId = firstID }, // not the one that was asked for
		func(resp *pb.WatchResponse) { resp.Created = true },    // nothing was asked for
	} {
		simulate(t, func(r *rig) {
			w := r.open("k")
			r.set(func() { r.twist = twist })
			next := r.Open(r.ctx, bound, "k")
			r.put("k")
			r.over(w)
			if next != nil {
				r.over(next)
			}
			r.streams(1, 0)
		})
	}
}

func TestSinceWhenAWatchTells(t *testing.T) {
	for _, c := range []struct{ created, start, since int64 }{
		{7, 0, 7},
		{7, 3, 7},   // it tells of more
		{7, 20, 19}, // of the future
		{0, 3, 2},
		{0, 0, math.MaxInt64}, // it cannot be relied on
	} {
		require.Equal(t, c.since, SinceOf(c.created, c.start), c)
	}
}
