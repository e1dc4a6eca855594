package queue_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/timeline"
)

// follower is a call of FollowHeads on the queue "q".
type follower struct {
	*simetcd.Server
	client *simetcd.Client
	told   chan string // "key=value@revision", "-" for an empty queue
	since  atomic.Int64
	ended  chan error
	cancel context.CancelCauseFunc
}

// follow runs a test with a follower with a callback that takes pace, after the first report.
func follow(t *testing.T, pace time.Duration, test func(t *testing.T, f *follower)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := simetcd.New(simetcd.Config{Seed: 1})
		defer srv.Close()
		ctx, cancel := context.WithCancelCause(context.Background())
		f := &follower{
			Server: srv, client: srv.Client("follower"),
			told: make(chan string, 1000), ended: make(chan error, 1), cancel: cancel,
		}
		q := newQueues(context.Background(), f.client.KV, f.client.Watcher).Queue("q")
		go func() {
			f.ended <- q.FollowHeads(ctx, func(head queue.Head) bool {
				if head.First == nil {
					f.told <- fmt.Sprintf("-@%d", head.Rev)
				} else {
					f.told <- fmt.Sprintf("%s=%s@%d", head.First.Key, head.First.Value, head.Rev)
				}
				f.since.Store(head.Since)
				time.Sleep(pace)
				return true
			})
		}()
		defer cancel(nil)
		time.Sleep(time.Second)
		test(t, f)
		cancel(nil)
		synctest.Wait()
		require.Len(t, f.ended, 1, "it must end with its context, at once")
	})
}

// hears asserts what is reported within a time, in order.
func (f *follower) hears(t *testing.T, within time.Duration, want ...string) {
	t.Helper()
	time.Sleep(within)
	synctest.Wait()
	var told []string
	for len(f.told) > 0 {
		told = append(told, <-f.told)
	}
	require.Equal(t, want, told)
}

func TestFollowTellsEveryChangeOfWhoIsFirstWithItsRevision(t *testing.T) {
	follow(t, 0, func(t *testing.T, f *follower) {
		f.PutKey("q/b", "1", clientv3.NoLease)
		f.PutKey("q/a", "2", clientv3.NoLease) // younger, though its key is smaller
		f.PutKey("q/a", "3", clientv3.NoLease)
		f.PutKey("q/b", "4", clientv3.NoLease)
		f.PutKey("q/b", "4", clientv3.NoLease) // no news
		f.PutKey("q0/a", "not of this queue", clientv3.NoLease)
		f.DeleteKey("q/b")
		f.DeleteKey("q/a")
		f.hears(t, time.Second, "-@1", "q/b=1@2", "q/b=4@5", "q/a=3@8", "-@9")
	})
}

// Since is a number that no token of the oldest entry is below, and that few tokens of earlier ones reach.
func TestFollowTellsSinceWhenTheFirstOneCanBeFirst(t *testing.T) {
	follow(t, 0, func(t *testing.T, f *follower) {
		since := func(want int64) {
			t.Helper()
			time.Sleep(12 * time.Second) // through a reading
			synctest.Wait()
			require.Equal(t, want, f.since.Load())
		}
		since(0)
		f.PutKey("q/a", "", clientv3.NoLease)
		since(2) // created on an empty queue
		f.PutKey("q/b", "", clientv3.NoLease)
		f.PutKey("q/c", "", clientv3.NoLease)
		f.PutKey("q/a", "new value", clientv3.NoLease)
		since(2)
		f.DeleteKey("q/a")
		since(6) // by the deletion
		f.PutKey("other", "", clientv3.NoLease)

		// What no watch has reported happened after the last reading.
		time.Sleep(12 * time.Second)
		f.MissDelete("q/b")
		f.DeleteKey("q/b")
		f.PutKey("other", "", clientv3.NoLease)
		since(8)
		f.MissDelete("q/c")
		f.DeleteKey("q/c")
		f.PutKey("q/d", "", clientv3.NoLease)
		f.PutKey("other", "", clientv3.NoLease)
		since(11)
	})
}

func TestFollowTakesATransactionForOneChange(t *testing.T) {
	follow(t, 0, func(t *testing.T, f *follower) {
		lease := f.GrantLease(time.Minute)
		f.PutKey("q/a", "", lease)
		f.PutKey("q/b", "", lease)
		f.PutKey("q/c", "", clientv3.NoLease)
		f.hears(t, time.Second, "-@1", "q/a=@2")
		f.RevokeLease(lease) // deletes both
		f.hears(t, time.Second, "q/c=@5")
	})
}

func TestFollowTellsAnEntryThatCameAgainUnderItsOldKeyFromTheOldOne(t *testing.T) {
	follow(t, 0, func(t *testing.T, f *follower) {
		f.PutKey("q/a", "same", clientv3.NoLease)
		f.hears(t, time.Second, "-@1", "q/a=same@2")
		f.DeleteKey("q/a")
		f.PutKey("q/a", "same", clientv3.NoLease)
		f.hears(t, time.Second, "-@3", "q/a=same@4")

		f.client.Cut() // the change happens behind its back
		f.DeleteKey("q/a")
		f.PutKey("q/a", "same", clientv3.NoLease)
		f.Compact(0)
		f.client.Reset()
		f.client.Heal()
		f.hears(t, 15*time.Second, "q/a=same@6")
	})
}

// trap B7
func TestFollowGoesOnWhenItsWatchEnds(t *testing.T) {
	follow(t, 0, func(t *testing.T, f *follower) {
		f.hears(t, time.Second, "-@1")
		for i, end := range []func(){
			func() { f.CancelWatches("for a test") }, f.CutWatches, f.NewLeader, f.client.Reset, func() { f.Stop(); f.Start() },
			func() { f.client.Cut(); f.PutKey("other", "", clientv3.NoLease); f.Compact(0); f.client.Heal() },
		} {
			end()
			rev := f.PutKey("q/a", fmt.Sprint(i), clientv3.NoLease)
			f.hears(t, 15*time.Second, fmt.Sprintf("q/a=%d@%d", i, rev))
		}
	})
}

// trap A21
func TestFollowFindsADeletionThatItsWatchWasNotTold(t *testing.T) {
	follow(t, 0, func(t *testing.T, f *follower) {
		f.PutKey("q/a", "", clientv3.NoLease)
		f.hears(t, time.Second, "-@1", "q/a=@2")
		f.MissDelete("q/a")
		f.DeleteKey("q/a")
		f.hears(t, 12*time.Second, "-@3")
	})
}

func TestFollowReadsWhenNoWatchCanBeHad(t *testing.T) {
	follow(t, 0, func(t *testing.T, f *follower) {
		f.hears(t, time.Second, "-@1")
		f.Intercept(func(c simetcd.Call) simetcd.Action {
			if c.Kind == simetcd.Watch {
				return simetcd.Action{Err: rpctypes.ErrGRPCNoLeader}
			}
			return simetcd.Action{}
		})
		f.CutWatches()
		f.PutKey("q/a", "", clientv3.NoLease)
		f.hears(t, 15*time.Second, "q/a=@2")
		f.client.ResetCounts()
		f.hears(t, time.Minute)
		require.Less(t, f.client.Count(), 200, "a try a second, and not more")
		f.Intercept(nil)
		f.hears(t, 10*time.Second)
		f.DeleteKey("q/a")
		f.hears(t, 100*time.Millisecond, "-@3")
	})
}

func TestFollowTellsEveryChangeThoughItReadsAgainMeanwhile(t *testing.T) {
	for seed := range uint64(5) { // what is ready at one instant is chosen at random
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			follow(t, 11*time.Second, func(t *testing.T, f *follower) {
				want := []string{"-@1"}
				for i := range 5 {
					want = append(want, fmt.Sprintf("q/a=%d@%d", i, f.PutKey("q/a", fmt.Sprint(i), clientv3.NoLease)))
				}
				f.hears(t, 2*time.Minute, want...)
			})
		})
	}
}

func TestFollowEndsWithTheCauseOfItsContextOrARefusal(t *testing.T) {
	why := errors.New("enough")
	follow(t, 0, func(t *testing.T, f *follower) {
		f.hears(t, time.Second, "-@1")
		f.cancel(why)
		require.ErrorIs(t, <-f.ended, why)
		f.ended <- nil
	})
	follow(t, 0, func(t *testing.T, f *follower) {
		f.hears(t, time.Second, "-@1")
		f.Intercept(func(c simetcd.Call) simetcd.Action { return simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied} })
		f.CutWatches()
		require.ErrorIs(t, <-f.ended, rpctypes.ErrPermissionDenied)
		f.ended <- nil
	})
	follow(t, 0, func(t *testing.T, f *follower) {
		f.PutKey("q/inner/1", "", clientv3.NoLease)
		require.ErrorIs(t, <-f.ended, lockerr.ErrNestedName)
		f.ended <- nil
	})
}

func TestFollowEndsWhenNobodyWantsToHearMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := simetcd.New(simetcd.Config{Seed: 1})
		defer srv.Close()
		client := srv.Client("follower")
		q := newQueues(context.Background(), client.KV, client.Watcher).Queue("q")
		times := 0
		time.AfterFunc(time.Second, func() { srv.PutKey("q/a", "", clientv3.NoLease) })
		require.NoError(t, q.FollowHeads(context.Background(), func(queue.Head) bool {
			times++
			return times < 2
		}))
		require.Equal(t, 2, times)
	})
}

// newQueues makes the queues of a session on a KV and a watcher.
func newQueues(life context.Context, kv clientv3.KV, watcher clientv3.Watcher) *queue.Queues {
	kv, _ = timeline.Of(kv)
	w := etcdkv.NewWriter(etcdkv.WriterConfig{Life: life, KV: kv, Slots: etcdkv.Slots, Spawn: func(f func()) bool { go f(); return true }})
	return queue.NewQueues(queue.Config{Life: life, KV: kv, Writer: w, Watcher: watcher, Log: zap.NewNop()})
}
