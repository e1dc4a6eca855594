package queue

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/timeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a queue with contenders, without sessions.
type rig struct {
	*testing.T
	*simetcd.Server
	ctx context.Context
}

func simulate(t *testing.T, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := simetcd.New(simetcd.Config{Seed: 1})
		defer srv.Close()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		test(&rig{T: t, Server: srv, ctx: ctx})
	})
}

func (r *rig) queue(client string) *Queue {
	c := r.Client(client)
	return newQueues(context.Background(), c.KV, c.Watcher).Queue("q")
}

func (r *rig) enter(q *Queue) *Entry {
	r.Helper()
	e, unsure, err := q.Enter(r.ctx, Want{Lease: r.GrantLease(time.Hour), Value: "v"})
	require.NoError(r, err)
	require.False(r, unsure)
	return e
}

type awaited struct {
	rev int64
	err error
}

func (r *rig) await(q *Queue, e *Entry) chan awaited {
	got := make(chan awaited, 1)
	go func() {
		rev, err := q.Await(r.ctx, e)
		got <- awaited{rev, err}
	}()
	return got
}

// trap A16
func TestNoWriteMakesTheServerSortTheQueue(t *testing.T) {
	simulate(t, func(r *rig) {
		var ranges []*pb.RangeRequest
		r.Intercept(func(c simetcd.Call) simetcd.Action {
			if req, ok := c.Req.(*pb.TxnRequest); ok && c.Kind == simetcd.Txn {
				for _, op := range append(req.Success, req.Failure...) {
					if get := op.GetRequestRange(); get != nil && len(get.RangeEnd) > 0 {
						ranges = append(ranges, get)
					}
				}
			}
			return simetcd.Action{}
		})
		q := r.queue("a")
		for range 3 {
			r.enter(q)
		}
		_, _, err := q.TryEnter(r.ctx, Want{Lease: r.GrantLease(time.Hour), Value: "v"})
		require.ErrorIs(r, err, ErrTaken)
		require.NotEmpty(r, ranges)
		for _, get := range ranges {
			require.Equal(r, pb.RangeRequest_NONE, get.SortOrder)
			require.Zero(r, get.MaxCreateRevision, "that filter reads the whole range too")
			require.Positive(r, get.Limit)
			require.LessOrEqual(r, get.Limit, int64(40))
			require.True(r, get.KeysOnly || get.Limit <= fewTried, "values of thousands would come from disk")
		}
	})
}

func TestOneWaitsForTheYoungestOlderEntryHoweverManyThereAre(t *testing.T) {
	simulate(t, func(r *rig) {
		q := r.queue("a")
		var entries []*Entry
		for range 30 { // more than peek
			entries = append(entries, r.enter(q))
		}
		last := r.await(q, entries[29])
		time.Sleep(time.Second)
		for _, i := range []int{3, 28, 15, 0} {
			require.NoError(r, q.Leave(r.ctx, entries[i], false))
			entries[i] = nil
			time.Sleep(time.Second)
			require.Empty(r, last)
		}
		for _, e := range entries[:29] {
			if e != nil {
				require.Empty(r, last)
				require.NoError(r, q.Leave(r.ctx, e, false))
			}
		}
		got := <-last
		require.NoError(r, got.err)
		require.Equal(r, r.Revision(), got.rev)
	})
}

// traps A7, A21, A22: whatever becomes of the watch, the place is kept and the
// handover is noticed.
func TestAWaitGoesOnWhateverBecomesOfItsWatch(t *testing.T) {
	for what, tc := range map[string]struct {
		happens func(r *rig, ahead string)
		late    time.Duration
	}{
		"nothing":    {func(*rig, string) {}, 10 * time.Millisecond},
		"compaction": {func(r *rig, _ string) { r.Compact(0) }, 10 * time.Millisecond},
		"cancelled":  {func(r *rig, _ string) { r.CancelWatches("made for a test"); time.Sleep(time.Second) }, 10 * time.Millisecond},
		"cut":        {func(r *rig, _ string) { r.CutWatches(); time.Sleep(time.Second) }, 200 * time.Millisecond},
		"cut and compacted": {func(r *rig, _ string) {
			r.Client("b").Cut()
			time.Sleep(time.Second)
			for i := range 10 {
				r.PutKey(fmt.Sprint("other", i), "", 0)
			}
			r.Compact(0)
			r.Client("b").Heal()
			time.Sleep(5 * time.Second)
		}, 200 * time.Millisecond},
		"no leader (A22)":    {func(r *rig, _ string) { r.NewLeader(); time.Sleep(time.Second) }, 200 * time.Millisecond},
		"a lost event (A21)": {func(r *rig, ahead string) { r.MissDelete(ahead) }, waitResync},
		"the key ahead is there again": {func(r *rig, ahead string) {
			kv := r.Get(ahead)
			r.DeleteKey(ahead)
			r.PutKey(ahead, "", clientv3.LeaseID(kv.Lease)) // younger now
		}, 10 * time.Millisecond},
	} {
		t.Run(what, func(t *testing.T) {
			simulate(t, func(r *rig) {
				a, b := r.queue("a"), r.queue("b")
				first, second := r.enter(a), r.enter(b)
				got := r.await(b, second)
				time.Sleep(2 * time.Second)
				tc.happens(r, first.Key)
				require.Equal(r, second.CreateRevision, r.Get(second.Key).CreateRevision, "the place is kept")
				began := time.Now()
				_ = a.Leave(r.ctx, first, false)
				require.NoError(r, (<-got).err)
				require.LessOrEqual(r, time.Since(began), tc.late)
			})
		})
	}
}

// traps A5, A6: success needs the own key, at the same revision.
func TestAWaiterWhoseKeyIsGoneIsNeverGranted(t *testing.T) {
	for what, tc := range map[string]struct {
		missed bool
		within time.Duration
	}{"told by its watch": {false, 10 * time.Millisecond}, "not told": {true, waitResync}} {
		t.Run(what, func(t *testing.T) {
			simulate(t, func(r *rig) {
				a, b := r.queue("a"), r.queue("b")
				r.enter(a)
				e := r.enter(b)
				got := r.await(b, e)
				time.Sleep(time.Second)
				if tc.missed {
					r.MissDelete(e.Key)
				}
				began := time.Now()
				r.RevokeLease(e.Lease)
				require.ErrorIs(r, (<-got).err, lockerr.ErrEvicted)
				require.LessOrEqual(r, time.Since(began), tc.within)
			})
		})
	}
	for after := range 20 { // both keys go, at nearly one instant, the own one first
		simulate(t, func(r *rig) {
			a, b := r.queue("a"), r.queue("b")
			first, e := r.enter(a), r.enter(b)
			got := r.await(b, e)
			time.Sleep(time.Duration(after) * 100 * time.Microsecond)
			r.DeleteKey(e.Key)
			r.DeleteKey(first.Key)
			require.ErrorIs(r, (<-got).err, lockerr.ErrEvicted)
		})
	}
}

func TestLeavingIsGuardedByTheRevision(t *testing.T) {
	simulate(t, func(r *rig) {
		q := r.queue("a")
		e := r.enter(q)
		r.DeleteKey(e.Key)
		require.ErrorIs(r, q.Leave(r.ctx, e, false), lockerr.ErrEvicted)
		again, _, err := q.Enter(r.ctx, Want{Lease: e.Lease, Value: "again"})
		require.NoError(r, err)
		require.ErrorIs(r, q.Leave(r.ctx, e, false), lockerr.ErrEvicted, "trap A8")
		require.ErrorIs(r, q.Rewrite(r.ctx, e, "x"), lockerr.ErrEvicted)
		require.ErrorIs(r, q.stay(r.ctx, e, nil, func() {}), lockerr.ErrEvicted)
		require.NoError(r, q.Rewrite(r.ctx, again, "y"))
		kv := r.Get(again.Key)
		require.Equal(r, "y", string(kv.Value))
		require.Equal(r, int64(again.Lease), kv.Lease, "a rewrite keeps the lease")
		swept := []Swept{{Name: "q", Key: again.Key}, {Name: "other", Key: "other/1"}}
		require.NoError(r, (&Queues{q.shared}).Sweep(r.ctx, swept))
		require.True(r, swept[0].Deleted)
		require.False(r, swept[1].Deleted)
		require.NoError(r, (&Queues{q.shared}).Sweep(r.ctx, swept), "nothing to do")
		require.Empty(r, r.Keys(""))
	})
}

// trap A22
func TestEveryWatchRequiresALeader(t *testing.T) {
	simulate(t, func(r *rig) {
		a, b := r.queue("a"), r.queue("b")
		held := r.enter(a)
		ctx, cancel := context.WithCancel(r.ctx)
		stay := make(chan error, 1)
		go func() { stay <- a.stay(ctx, held, nil, func() {}) }()
		got := r.await(b, r.enter(b))
		time.Sleep(time.Second)
		for _, c := range []string{"a", "b"} {
			r.Client(c).ResetCounts()
		}
		r.NewLeader() // breaks the streams that do
		time.Sleep(time.Second)
		require.Equal(r, 1, r.Client("a").Count(simetcd.Watch), "the holder's")
		require.Equal(r, 1, r.Client("b").Count(simetcd.Watch), "the waiter's")
		cancel()
		require.ErrorIs(r, <-stay, context.Canceled)
		require.Empty(r, got)
		require.NoError(r, a.Leave(r.ctx, held, false))
		require.NoError(r, (<-got).err)
	})
}

// newQueues makes the queues of a session on a KV and a watcher.
func newQueues(life context.Context, kv clientv3.KV, watcher clientv3.Watcher) *Queues {
	kv, _ = timeline.Of(kv)
	w := etcdkv.NewWriter(etcdkv.WriterConfig{Life: life, KV: kv, Slots: etcdkv.Slots, Spawn: func(f func()) bool { go f(); return true }})
	return NewQueues(Config{Life: life, KV: kv, Writer: w, Watcher: watcher, Log: zap.NewNop()})
}
