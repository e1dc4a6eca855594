package etcdlock

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func TestAnObserverEndsWithItsContextAndWithoutAnError(t *testing.T) {
	simulate(t, func(w *world) {
		e := NewElection(w.session("o"), "e")
		o := w.observe(e, 0)
		w.pass(time.Second)
		asked := time.Now()
		o.cancel()
		o.get()
		require.Equal(w, asked, o.at)
		require.Equal(w, []string{vacant}, o.saw())

		w.Client("o").Cut()
		o = w.observe(e, 0)
		w.pass(5 * time.Second)
		asked = time.Now()
		o.cancel()
		o.get()
		require.Equal(w, asked, o.at)
		require.Empty(w, o.saw())
	})
}

func TestAnObserverIsToldNothingMoreWhenItsContextHasEnded(t *testing.T) {
	for range 20 { // what is ready at one instant is chosen at random
		simulate(t, func(w *world) {
			ctx, cancel := context.WithCancel(w.ctx)
			defer cancel()
			term := w.campaign(NewElection(w.session("a"), "e"), "A")
			var seen []string
			for leader, err := range NewElection(w.session("o"), "e").Observe(ctx) {
				require.NoError(w, err)
				seen = append(seen, leader.Value)
				switch leader.Value {
				case "A":
					for i := range 10 {
						require.NoError(w, term.Proclaim(w.ctx, fmt.Sprint(i)))
					}
					w.pass(time.Second)
				case "4":
					cancel()
				}
			}
			require.Equal(w, []string{"A", "0", "1", "2", "3", "4"}, seen)
		})
	}
}

func TestAnObserverIsToldLastThatItsSessionOrClientWasClosed(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("o")
		o := w.observe(NewElection(s, "e"), 0)
		require.NoError(w, s.Close(w.ctx))
		_, err := o.result()
		require.ErrorIs(w, err, ErrSessionClosed)
		require.Equal(w, []string{vacant}, o.saw())

		o = w.observe(NewElection(s, "e"), 0)
		_, err = o.result()
		require.ErrorIs(w, err, ErrSessionClosed)
		require.Empty(w, o.saw())

		o = w.observe(NewElection(w.session("o2"), "e"), 0)
		_ = w.Client("o2").Close()
		_, err = o.result()
		require.ErrorIs(w, err, ErrSessionClosed)
		require.ErrorIs(w, err, ErrClientClosed)
	})
}

// recorder knows the contexts of all watches that were made through it.
type recorder struct {
	clientv3.Watcher
	made chan context.Context
}

func (r recorder) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	r.made <- ctx
	return r.Watcher.Watch(ctx, key, opts...)
}

func TestLeavingTheLoopOfAnObserverLeavesNoWatch(t *testing.T) {
	simulate(t, func(w *world) {
		client := w.Client("o").Client
		made := make(chan context.Context, 10)
		client.Watcher = recorder{client.Watcher, made}
		observe := NewElection(w.session("o"), "e").Observe(w.ctx)
		for range 2 { // one iterator can be ranged over again
			for leader, err := range observe {
				require.NoError(w, err)
				require.True(w, leader.Vacant())
				break
			}
			w.pass(10 * time.Millisecond) // a watch that is being created is cancelled when it has been
			require.Error(w, (<-made).Err())
		}
		w.Client("o").ResetCounts()
		w.pass(time.Minute)
		require.Zero(w, w.Client("o").Count(simetcd.Watch, simetcd.Range))
	})
}

func TestAnObserverWithoutPermissionIsToldSoAndEnds(t *testing.T) {
	simulate(t, func(w *world) {
		e := NewElection(w.session("o"), "e")
		w.Intercept(func(c simetcd.Call) simetcd.Action {
			if c.Kind == simetcd.Range || c.Kind == simetcd.Watch {
				return simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}
			}
			return simetcd.Action{}
		})
		o := w.observe(e, 0)
		_, err := o.result()
		require.ErrorIs(w, err, rpctypes.ErrPermissionDenied)
		require.Empty(w, o.saw())
		_, err = e.Leader(w.ctx)
		require.ErrorIs(w, err, rpctypes.ErrPermissionDenied)
	})
}
