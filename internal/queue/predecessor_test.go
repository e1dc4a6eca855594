package queue

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// again enters under a lease.
func (r *rig) again(q *Queue, lease clientv3.LeaseID) *Entry {
	r.Helper()
	e, _, err := q.Enter(r.ctx, Want{Lease: lease, Value: "v"})
	require.NoError(r, err)
	return e
}

// round makes b wait behind a, as in the round before.
func round(r *rig, a, b *Queue, la, lb clientv3.LeaseID) (*Entry, chan awaited) {
	held := r.again(a, la)
	return held, r.await(b, r.again(b, lb))
}

// goRound is a whole round.
func goRound(r *rig, a, b *Queue, la, lb clientv3.LeaseID) {
	held, got := round(r, a, b, la, lb)
	time.Sleep(100 * time.Millisecond)
	require.NoError(r, a.Leave(r.ctx, held, false))
	require.NoError(r, (<-got).err)
	r.DeleteKey(fmt.Sprintf("q/%x", lb))
}

// A session that enters again behind the same one sends nothing during its wait, and reads once at its end.
// The watch of the last wait reports on the predecessor.
func TestInALongQueueTheWatchOnTheOneAheadIsKept(t *testing.T) {
	simulate(t, func(r *rig) {
		a, b := r.queue("a"), r.queue("b")
		b.shortQueue = -1
		defer b.Close()
		c := r.Client("b")
		la, lb := r.GrantLease(time.Hour), r.GrantLease(time.Hour)
		for i := range 4 {
			c.ResetCounts()
			held, got := round(r, a, b, la, lb)
			time.Sleep(100 * time.Millisecond)
			if i > 0 {
				require.Equal(r, 1, c.Count(simetcd.Txn), "the entry")
				require.Equal(r, 1, c.Count(), "round %d", i)
			}
			require.Empty(r, got)
			require.NoError(r, a.Leave(r.ctx, held, false))
			granted := <-got
			require.NoError(r, granted.err)
			require.Greater(r, granted.rev, held.CreateRevision)
			if i > 0 {
				require.Equal(r, 1, c.Count(simetcd.Range), "the proof")
			}
			r.DeleteKey(fmt.Sprintf("q/%x", lb))
		}
	})
}

// The kept watch also shows what happened to the predecessor between two waits, or between our entry and our
// wait. The end of an earlier entry is not taken for that of the present one.
func TestTheKeptWatchTellsOneStayFromAnother(t *testing.T) {
	simulate(t, func(r *rig) {
		a, b := r.queue("a"), r.queue("b")
		b.shortQueue = -1
		defer b.Close()
		la, lb := r.GrantLease(time.Hour), r.GrantLease(time.Hour)
		goRound(r, a, b, la, lb)

		for range 3 { // it enters and leaves while the watch is not read
			require.NoError(r, a.Leave(r.ctx, r.again(a, la), false))
		}
		held, got := round(r, a, b, la, lb)
		time.Sleep(100 * time.Millisecond)
		require.Empty(r, got, "it stands")
		require.NoError(r, a.Leave(r.ctx, held, false))
		require.NoError(r, (<-got).err)
		r.DeleteKey(fmt.Sprintf("q/%x", lb))

		held = r.again(a, la)
		e := r.again(b, lb)
		require.NoError(r, a.Leave(r.ctx, held, false))
		time.Sleep(100 * time.Millisecond)
		r.again(a, la) // again, behind us
		granted := <-r.await(b, e)
		require.NoError(r, granted.err)
	})
}

// A kept watch may break (trap A7), or may not report what it should (trap A21). The wait opens another one,
// or reads.
func TestAKeptWatchThatFailsCostsNoPlace(t *testing.T) {
	for what, fail := range map[string]func(r *rig, key string){
		"cut":       func(r *rig, _ string) { r.CutWatches() },
		"compacted": func(r *rig, _ string) { r.Compact(r.Revision()); r.CutWatches() },
		"canceled":  func(r *rig, _ string) { r.CancelWatches("for a reason") },
		"silent":    func(r *rig, key string) { r.MissDelete(key) },
	} {
		for _, before := range []bool{true, false} {
			simulate(t, func(r *rig) {
				a, b := r.queue("a"), r.queue("b")
				b.shortQueue = -1
				defer b.Close()
				la, lb := r.GrantLease(time.Hour), r.GrantLease(time.Hour)
				goRound(r, a, b, la, lb)

				if before && what != "silent" {
					fail(r, fmt.Sprintf("q/%x", la))
				}
				held, got := round(r, a, b, la, lb)
				time.Sleep(100 * time.Millisecond)
				if !before || what == "silent" {
					fail(r, held.Key)
				}
				time.Sleep(100 * time.Millisecond)
				require.Empty(r, got, what)
				require.NoError(r, a.Leave(r.ctx, held, false))
				select {
				case granted := <-got:
					require.NoError(r, granted.err, what)
				case <-time.After(waitResync + time.Second):
					require.Fail(r, "it waits for ever", what)
				}
			})
		}
	}
}

// The kept watch ends when a cache takes its place, because it is not read any more.
func TestAViewTakesThePlaceOfTheKeptWatch(t *testing.T) {
	simulate(t, func(r *rig) {
		a, b := r.queue("a"), r.queue("b")
		defer b.Close()
		la, lb := r.GrantLease(time.Hour), r.GrantLease(time.Hour)
		for _, b.shortQueue = range []int{-1, ShortQueue} {
			held, got := round(r, a, b, la, lb)
			time.Sleep(100 * time.Millisecond)
			require.NoError(r, a.Leave(r.ctx, held, false))
			require.NoError(r, (<-got).err)
			r.DeleteKey(fmt.Sprintf("q/%x", lb))
		}
		require.NotNil(r, b.cache)
		require.Nil(r, b.theirs)
	})
}

// The cache of an exclusive entry receives no writes.
func TestAViewHearsOnlyOfThoseWhoGo(t *testing.T) {
	simulate(t, func(r *rig) {
		a, b, c := r.queue("a"), r.queue("b"), r.queue("c")
		defer b.Close()
		held := r.enter(a)
		e := r.enter(b)
		got := r.await(b, e)
		time.Sleep(100 * time.Millisecond)
		younger := r.enter(c)
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		require.Less(r, b.cache.rev, younger.CreateRevision)
		require.NoError(r, c.Leave(r.ctx, younger, false))
		require.NoError(r, a.Leave(r.ctx, held, false))
		granted := <-got
		require.NoError(r, granted.err)
		require.Equal(r, r.Revision(), granted.rev, "the token is the revision of the deletion that let it in")
	})
}

// A cache that receives deletions only knows the older entries from the transaction that entered. If that
// did not read them, as for a key that existed before, the queue is read.
func TestAViewIsRightForKeysThatWereThereBefore(t *testing.T) {
	simulate(t, func(r *rig) {
		a, b := r.queue("a"), r.queue("b")
		defer b.Close()
		la, lb := r.GrantLease(time.Hour), r.GrantLease(time.Hour)
		goRound(r, a, b, la, lb)

		held := r.again(a, la)
		r.PutKey(fmt.Sprintf("q/%x", lb), "from an unanswered try", lb)
		e := r.again(b, lb) // adopts it
		got := r.await(b, e)
		time.Sleep(100 * time.Millisecond)
		require.Empty(r, got, "a stands ahead")
		require.NoError(r, a.Leave(r.ctx, held, false))
		require.NoError(r, (<-got).err)
		r.DeleteKey(fmt.Sprintf("q/%x", lb))

		r.PutKey(fmt.Sprintf("q/%x", lb), "from an unanswered try", lb)
		select { // no entry is ahead
		case granted := <-r.await(b, r.again(b, lb)):
			require.NoError(r, granted.err)
		case <-time.After(100 * time.Millisecond):
			require.Fail(r, "it waits for news that cannot come")
		}
	})
}

// With a cache, a session that enters again sends nothing else.
func TestAViewIsKeptFromWaitToWait(t *testing.T) {
	simulate(t, func(r *rig) {
		a, b := r.queue("a"), r.queue("b")
		defer b.Close()
		c := r.Client("b")
		la, lb := r.GrantLease(time.Hour), r.GrantLease(time.Hour)
		for i := range 4 {
			c.ResetCounts()
			held, got := round(r, a, b, la, lb)
			time.Sleep(100 * time.Millisecond)
			require.NoError(r, a.Leave(r.ctx, held, false))
			require.NoError(r, (<-got).err)
			if i > 0 {
				require.Equal(r, 1, c.Count(), "round %d", i)
			}
			r.DeleteKey(fmt.Sprintf("q/%x", lb))
		}
	})
}

// A wait that is broken off in the read after an event, and begun again, does not wait for that event
// a second time.
func TestAWaitThatIsBegunAgainKnowsWhatTheFirstOneHeard(t *testing.T) {
	simulate(t, func(r *rig) {
		a, b := r.queue("a"), r.queue("b")
		b.shortQueue = -1
		defer b.Close()
		held, e := r.enter(a), r.enter(b)
		ctx, cancel := context.WithCancel(r.ctx)
		got := make(chan error, 1)
		go func() {
			_, err := b.Await(ctx, e)
			got <- err
		}()
		time.Sleep(100 * time.Millisecond)
		r.Intercept(func(c simetcd.Call) simetcd.Action {
			if c.Client == "b" && c.Kind == simetcd.Range {
				cancel()
			}
			return simetcd.Action{}
		})
		require.NoError(r, a.Leave(r.ctx, held, false))
		require.ErrorIs(r, <-got, context.Canceled)
		r.Intercept(nil)
		select {
		case granted := <-r.await(b, e):
			require.NoError(r, granted.err)
		case <-time.After(100 * time.Millisecond):
			require.Fail(r, "it waits for news that came already")
		}
	})
}

// A key that shows that names nest is refused each time, also if a watch on it was kept.
func TestAKeptWatchHidesNoNestedName(t *testing.T) {
	simulate(t, func(r *rig) {
		b := r.queue("b")
		b.shortQueue = -1
		defer b.Close()
		r.PutKey("q/inner/1", "", r.GrantLease(time.Hour))
		for range 2 {
			e := r.enter(b)
			select {
			case refused := <-r.await(b, e):
				require.ErrorIs(r, refused.err, lockerr.ErrNestedName)
			case <-time.After(100 * time.Millisecond):
				require.Fail(r, "it waits behind a key of another name")
			}
			require.NoError(r, b.Leave(r.ctx, e, false))
		}
	})
}

// laggingKV is a KV of a member that lags by a revision in its serializable answers.
type laggingKV struct {
	clientv3.KV
	asked int
}

func (l *laggingKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	if !clientv3.OpGet(key, opts...).IsSerializable() {
		return l.KV.Get(ctx, key, opts...)
	}
	l.asked++
	now, err := l.KV.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	resp, err := l.KV.Get(ctx, key, append(opts, clientv3.WithRev(now.Header.Revision-1))...)
	if err == nil {
		resp.Header.Revision = now.Header.Revision - 1
	}
	return resp, err
}

// The answer of a member that lags proves nothing, and costs one more read.
func TestAMemberThatIsBehindIsNotBelieved(t *testing.T) {
	simulate(t, func(r *rig) {
		a := r.queue("a")
		c := r.Client("b")
		kv := &laggingKV{KV: c.KV}
		b := newQueues(context.Background(), kv, c.Watcher).Queue("q")
		b.shortQueue = -1
		defer b.Close()
		held := r.enter(a)
		got := r.await(b, r.enter(b))
		time.Sleep(100 * time.Millisecond)
		c.ResetCounts()
		require.NoError(r, a.Leave(r.ctx, held, false))
		select {
		case granted := <-got:
			require.NoError(r, granted.err)
			require.Equal(r, r.Revision(), granted.rev)
			require.Zero(r, c.Count(simetcd.Watch, simetcd.TxnReadOnly), "the one ahead was taken to be there still")
		case <-time.After(50 * time.Millisecond):
			require.Fail(r, "it is not granted")
		}
		require.Equal(r, 1, kv.asked)
	})
}
