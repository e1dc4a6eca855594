package queue

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	lw "github.com/etcdlock/etcdlock/internal/watch"
)

// evictedWithin deletes one key, and checks how long it takes until its guard tells.
func (s *guarded) evictedWithin(i int, most time.Duration) {
	s.Helper()
	began := time.Now()
	s.DeleteKey(s.entries[i].Key)
	<-s.told
	require.LessOrEqual(s, time.Since(began), most)
}

func TestReadingsThatHangKeepNoOtherGuardFromItsTurn(t *testing.T) {
	simulate(t, func(r *rig) {
		s := r.guard(manyHolds)
		s.pass(5 * time.Second)
		readings := 0
		r.Intercept(func(c simetcd.Call) simetcd.Action {
			if c.Kind != simetcd.TxnReadOnly {
				return simetcd.Action{}
			}
			readings++
			return simetcd.Action{DropRequest: readings%3 == 0}
		})
		r.CutWatches() // all keys are read
		s.evictedWithin(manyHolds-1, 2500*time.Millisecond)
		r.Intercept(nil)
		s.end()
	})
}

func TestOpeningsThatHangKeepNoOtherGuardFromBeingRead(t *testing.T) {
	simulate(t, func(r *rig) {
		r.Intercept(func(c simetcd.Call) simetcd.Action { return simetcd.Action{DropRequest: c.Kind == simetcd.Watch} })
		s := r.guard(manyHolds)
		s.pass(500 * time.Millisecond)
		s.evictedWithin(manyHolds-1, time.Second)
		r.Intercept(nil)
		s.end()
	})
}

// A guard is added in the instant in which the goroutine of the keeper finds that none is left.
func TestAGuardThatIsAddedWhileTheKeeperGetsIdleIsKept(t *testing.T) {
	life, end := context.WithCancel(context.Background())
	defer end()
	queues := newQueues(life, refusing{}, notWatching{})
	k := queues.Keeper(func(run func()) { go run() })
	for round := range 20_000 {
		k.Guard(&Entry{Key: "a/1"}, false, &unguarded{}).Stop() // then none is left
		for began := time.Now(); time.Since(began) < time.Duration(round%40)*100*time.Nanosecond; {
		}
		owner := &unguarded{}
		g := k.Guard(&Entry{Key: "b/1"}, false, owner)
		k.mu.Lock()
		running := k.running
		k.mu.Unlock()
		require.True(t, running || owner.Load(), "round %d: the guard is lost", round)
		g.Stop()
	}
}

// unguarded notes that its guard has ended by itself.
type unguarded struct{ atomic.Bool }

func (*unguarded) Evicted()          {}
func (*unguarded) Contended()        {}
func (u *unguarded) Unguarded(error) { u.Store(true) }

// notWatching opens no watch.
type notWatching struct{ clientv3.Watcher }

func (notWatching) Open(context.Context, time.Duration, string, ...clientv3.OpOption) *lw.Watch {
	return nil
}

func (notWatching) OpenTo(context.Context, time.Duration, lw.Sink, string, ...clientv3.OpOption) *lw.Watch {
	time.Sleep(50 * time.Microsecond) // until then the guard is stopped
	return nil
}

// refusing refuses all readings.
type refusing struct{ clientv3.KV }

func (refusing) Txn(context.Context) clientv3.Txn { return refusingTxn{} }

type refusingTxn struct{ clientv3.Txn }

func (t refusingTxn) Then(...clientv3.Op) clientv3.Txn     { return t }
func (refusingTxn) Commit() (*clientv3.TxnResponse, error) { return nil, rpctypes.ErrPermissionDenied }
