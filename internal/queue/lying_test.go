package queue

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	lw "github.com/etcdlock/etcdlock/internal/watch"
)

// mutable is a WatchClient with streams that can be muted. A muted stream stays open and reports no
// event, as one that leads to a member that hangs.
type mutable struct {
	pb.WatchClient
	mu    sync.Mutex
	muted int // the number of streams that were opened before the last mute
	opens int
}

type mutableStream struct {
	pb.Watch_WatchClient
	of     *mutable
	number int
}

func (m *mutable) Watch(ctx context.Context, opts ...grpc.CallOption) (pb.Watch_WatchClient, error) {
	st, err := m.WatchClient.Watch(ctx, opts...)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opens++
	return &mutableStream{st, m, m.opens}, nil
}

// mute mutes the streams that are open.
func (m *mutable) mute() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.muted = m.opens
}

func (s *mutableStream) Recv() (*pb.WatchResponse, error) {
	for {
		resp, err := s.Watch_WatchClient.Recv()
		s.of.mu.Lock()
		muted := s.number <= s.of.muted
		s.of.mu.Unlock()
		if err != nil || !muted || len(resp.Events) == 0 {
			return resp, err
		}
	}
}

// mutableQueue is a queue with its watches on streams that can be muted.
func (r *rig) mutableQueue(client string) (*Queue, *mutable) {
	c := r.Client(client)
	streams := &mutable{WatchClient: c.Remote()}
	watcher := lw.New(r.ctx, c.Watcher, streams, func(f func()) bool { go f(); return true })
	return newQueues(r.ctx, c.KV, watcher).Queue("q"), streams
}

// during runs a call beside a test, and ends it.
func (r *rig) during(call func(ctx context.Context), test func()) {
	ctx, cancel := context.WithCancel(r.ctx)
	var calls sync.WaitGroup
	calls.Go(func() { call(ctx) })
	test()
	cancel()
	calls.Wait()
}

// reports collects what a callback is given.
type reports struct {
	mu  sync.Mutex
	all []string
}

func (p *reports) add(s string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, s)
}

func (p *reports) get() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.all)
}

// trap A21: a watch that reports nothing is noticed, and what it left out is reported.
func TestWhatIsBesideAQueueIsReadAgainAndASilentStreamIsLeft(t *testing.T) {
	simulate(t, func(r *rig) {
		q, streams := r.mutableQueue("a")
		lease := r.GrantLease(time.Hour)
		r.PutKey("p/1", "", lease)
		var got reports
		r.during(func(ctx context.Context) {
			known := 0
			_ = q.FollowBeside(ctx, "p/", nil, func(all []*mvccpb.KeyValue) error {
				for _, kv := range all[known:] {
					got.add(string(kv.Key))
				}
				known = len(all)
				return nil
			})
		}, func() {
			time.Sleep(time.Second)
			r.PutKey("p/3", "", lease)
			r.PutKey("p/2", "", lease)
			time.Sleep(time.Second)
			require.Equal(r, []string{"p/1", "p/3", "p/2"}, got.get())
			streams.mute()
			r.PutKey("p/4", "", lease)
			time.Sleep(holdResync)
			require.Equal(r, []string{"p/1", "p/3", "p/2", "p/4"}, got.get())
			time.Sleep(time.Second)
			r.PutKey("p/5", "", lease)
			time.Sleep(100 * time.Millisecond)
			require.Equal(r, []string{"p/1", "p/3", "p/2", "p/4", "p/5"}, got.get(), "it is still on the silent stream")
		})
	})
}

// trap A21: an observer leaves a stream that reports nothing.
func TestAnObserverLeavesAStreamThatIsSilent(t *testing.T) {
	simulate(t, func(r *rig) {
		q, streams := r.mutableQueue("a")
		key, lease := "q/1", r.GrantLease(time.Hour)
		var got reports
		r.during(func(ctx context.Context) {
			_ = q.FollowHeads(ctx, func(h Head) bool { got.add(string(h.First.GetValue())); return true })
		}, func() {
			time.Sleep(time.Second)
			r.PutKey(key, "1", lease)
			time.Sleep(time.Second)
			streams.mute()
			r.PutKey(key, "2", lease)
			time.Sleep(waitResync + following.patience)
			require.Equal(r, []string{"", "1", "2"}, got.get())
			r.PutKey(key, "3", lease)
			time.Sleep(100 * time.Millisecond)
			require.Equal(r, []string{"", "1", "2", "3"}, got.get(), "it is still on the silent stream")
		})
	})
}

// trap A21: a wait in a long queue leaves a stream that reports nothing, also if a reading grants it.
func TestAWaitBehindAPredecessorLeavesAStreamThatIsSilent(t *testing.T) {
	for _, ends := range []bool{false, true} {
		simulate(t, func(r *rig) {
			a, b := r.queue("a"), r.queue("b")
			c, streams := r.mutableQueue("c")
			c.shortQueue = -1
			defer c.Close()
			first, second, third := r.enter(a), r.enter(b), r.enter(c)
			got := r.await(c, third)
			time.Sleep(5 * time.Second)
			streams.mute()
			require.NoError(r, b.Leave(r.ctx, second, false))
			if ends {
				require.NoError(r, a.Leave(r.ctx, first, false))
				require.NoError(r, (<-got).err)
				require.NoError(r, c.Leave(r.ctx, third, false))
				first = r.enter(a)
				got = r.await(c, r.enter(c))
				time.Sleep(waitResync / 2) // before its first reading
			} else {
				time.Sleep(waitResync)
			}
			require.Empty(r, got)
			require.NoError(r, a.Leave(r.ctx, first, false))
			time.Sleep(100 * time.Millisecond)
			require.Len(r, got, 1, "it is still on the silent stream")
			require.NoError(r, (<-got).err)
		})
	}
}

// trap A21: a session that keeps its key learns of another one, whatever its watch reports.
func TestAKeptKeyFindsCompanyThatItsWatchDidNotReport(t *testing.T) {
	for what, wait := range map[string]bool{"with the cache of a wait": true, "without": false} {
		t.Run(what, func(t *testing.T) {
			simulate(t, func(r *rig) {
				other := r.queue("other")
				q, streams := r.mutableQueue("a")
				defer q.Close()
				var ahead *Entry
				if wait {
					ahead = r.enter(other)
				}
				e, _, err := q.Enter(r.ctx, Want{Lease: r.GrantLease(time.Hour), Value: "v", Keeps: true})
				require.NoError(r, err)
				if wait {
					got := r.await(q, e)
					time.Sleep(time.Second)
					require.NoError(r, other.Leave(r.ctx, ahead, false))
					require.NoError(r, (<-got).err)
				}
				require.Equal(r, wait, q.Viewed())
				kept, contended := make(chan struct{}), make(chan struct{}, 100)
				close(kept)
				r.during(func(ctx context.Context) {
					require.ErrorIs(r, q.stay(ctx, e, kept, func() { contended <- struct{}{} }), context.Canceled)
				}, func() {
					time.Sleep(time.Second)
					streams.mute()
					r.enter(other)
					time.Sleep(time.Second)
					require.Empty(r, contended)
					time.Sleep(holdResync)
					require.NotEmpty(r, contended)
				})
			})
		})
	}
}

// A watch that is healthy stays. A reading from time to time shows that it is.
func TestAHealthyWatchIsNotOpenedAgain(t *testing.T) {
	for name, call := range map[string]func(ctx context.Context, r *rig, q *Queue, held *Entry) error{
		"AwaitGone": func(ctx context.Context, _ *rig, q *Queue, held *Entry) error {
			return q.AwaitGone(ctx, held.KV())
		},
		"FollowBeside": func(ctx context.Context, _ *rig, q *Queue, _ *Entry) error {
			return q.FollowBeside(ctx, "q/", nil, func([]*mvccpb.KeyValue) error { return nil })
		},
		"AwaitChallenger": func(ctx context.Context, _ *rig, q *Queue, held *Entry) error {
			_, err := q.AwaitChallenger(ctx, held, time.Second, func(context.Context, clientv3.LeaseID) bool { return true })
			return err
		},
		"FollowHeads": func(ctx context.Context, _ *rig, q *Queue, _ *Entry) error {
			return q.FollowHeads(ctx, func(Head) bool { return true })
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(r *rig) {
				held, c := r.enter(r.queue("holder")), r.Client("a")
				q, _ := r.leanQueue("a")
				r.during(func(ctx context.Context) {
					require.ErrorIs(r, call(ctx, r, q, held), context.Canceled)
				}, func() {
					time.Sleep(5 * time.Minute)
					require.Equal(r, 1, c.Count(simetcd.Watch))
					require.Zero(r, c.Count(simetcd.Txn, simetcd.TxnReadOnly))
					require.LessOrEqual(r, c.Count(simetcd.Range), 1+int(5*time.Minute/waitResync))
				})
			})
		})
	}
}

// trap A21
func TestAwaitGoneFindsADeletionThatItsWatchDidNotReport(t *testing.T) {
	simulate(t, func(r *rig) {
		held := r.enter(r.queue("holder"))
		q, streams := r.mutableQueue("a")
		gone := make(chan error, 1)
		r.during(func(ctx context.Context) { gone <- q.AwaitGone(ctx, held.KV()) }, func() {
			time.Sleep(time.Second)
			r.PutKey(held.Key, "another value", held.Lease)
			streams.mute()
			r.DeleteKey(held.Key)
			r.PutKey(held.Key, "another entry", held.Lease)
			time.Sleep(time.Second)
			require.Empty(r, gone)
			time.Sleep(waitResync)
			require.NoError(r, <-gone)
		})
	})
}
