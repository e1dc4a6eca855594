package queue

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	lw "github.com/etcdlock/etcdlock/internal/watch"
)

// streams counts the streams that are opened for lean watches.
type streams struct {
	pb.WatchClient
	atomic.Int32
}

func (s *streams) Watch(ctx context.Context, opts ...grpc.CallOption) (pb.Watch_WatchClient, error) {
	s.Add(1)
	return s.WatchClient.Watch(ctx, opts...)
}

// leanQueue is a queue with lean watches.
func (r *rig) leanQueue(client string) (*Queue, *streams) {
	c := r.Client(client)
	remote := &streams{WatchClient: c.Remote()}
	watcher := lw.New(r.ctx, c.Watcher, remote, func(f func()) bool { go f(); return true })
	return newQueues(r.ctx, c.KV, watcher).Queue("q"), remote
}

// A watch that does not tell what a reading has shown may hang on a member that does: the next
// one goes by another stream. One that tells keeps its own.
func TestAWaitMovesToAnotherStreamWhenItsWatchIsSilent(t *testing.T) {
	for silent, moved := range map[bool]int32{true: 1, false: 0} {
		for _, lean := range []bool{false, true} {
			simulate(t, func(r *rig) {
				a, b, c := r.queue("a"), r.queue("b"), r.queue("c")
				moves := c.hung.Load
				if lean {
					var opened *streams
					c, opened = r.leanQueue("c")
					moves = func() int32 { return opened.Load() - 1 }
				}
				first, second, third := r.enter(a), r.enter(b), r.enter(c)
				got := r.await(c, third)
				time.Sleep(500 * time.Millisecond)
				if silent {
					r.MissDelete(second.Key)
				}
				require.NoError(r, b.Leave(r.ctx, second, false))
				time.Sleep(firstResync + patience + 100*time.Millisecond)
				require.Equal(r, moved, moves())
				require.NoError(r, a.Leave(r.ctx, first, false))
				require.NoError(r, (<-got).err)
			})
		}
	}
}

// What a stream for all cannot do is left to the client.
func TestWhatAStreamForAllCannotDoGoesByTheClient(t *testing.T) {
	simulate(t, func(r *rig) {
		q, opened := r.leanQueue("a")
		e := r.enter(q)
		of := &mvccpb.KeyValue{Key: []byte(e.Key), CreateRevision: e.CreateRevision}
		w := q.openOn(metadata.AppendToOutgoingContext(r.ctx, "tenant", "blue"), of)
		require.NotNil(r, w)
		require.Zero(r, opened.Load())
		w.stop()

		require.NotNil(r, q.openOn(r.ctx, of))
		require.Equal(r, int32(1), opened.Load())
	})
}

// Observers are told of what has happened while a stream was broken, whichever way it is watched.
func TestNoChangeIsMissedBecauseAStreamBreaks(t *testing.T) {
	for what, lean := range map[string]bool{"on a stream of ours": true, "by the client": false} {
		t.Run(what, func(t *testing.T) {
			simulate(t, func(r *rig) {
				q := r.queue("a")
				opened := &streams{}
				if lean {
					q, opened = r.leanQueue("a")
				}
				e := r.enter(q)
				var mu sync.Mutex
				var heard []string
				told := func() []string {
					mu.Lock()
					defer mu.Unlock()
					return slices.Clone(heard)
				}
				followed := make(chan error)
				ctx, cancel := context.WithCancel(r.ctx)
				go func() {
					followed <- q.Follow(ctx, func(first *mvccpb.KeyValue, _ int64) bool {
						mu.Lock()
						defer mu.Unlock()
						heard = append(heard, string(first.GetValue()))
						return true
					})
				}()
				time.Sleep(time.Second)
				c := r.Client("a")
				broken := func(values ...string) {
					c.Cut()
					for _, v := range values {
						r.PutKey(e.Key, v, e.Lease)
					}
					time.Sleep(3 * time.Second)
				}
				broken("1", "2", "3")
				c.Heal()
				time.Sleep(5 * time.Second)
				require.Equal(r, []string{"v", "1", "2", "3"}, told())

				broken("4", "5") // twice without a word in between
				c.Heal()
				c.Reset()
				time.Sleep(5 * time.Second)
				require.Equal(r, []string{"v", "1", "2", "3", "4", "5"}, told())

				broken("6", "7") // what came first is compacted
				r.Compact(r.Revision())
				c.Heal()
				time.Sleep(10 * time.Second)
				all := told()
				require.Equal(r, "7", all[len(all)-1])
				cancel()
				require.Error(r, <-followed)
				if lean {
					require.LessOrEqual(r, opened.Load(), int32(12))
				}
			})
		})
	}
}
