package lockmgr

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// eachWay runs a test for a call that waits in its own goroutine in a long queue, and for one with a worker.
func eachWay(t *testing.T, test func(r *rig, m *managed, c local.Call)) {
	told := exclusive()
	told.Waiting = local.NewWaiting(func(int) {})
	for way, c := range map[string]local.Call{"alone": exclusive(), "by a worker": told} {
		t.Run(way, func(t *testing.T) {
			simulate(t, func(r *rig) {
				m := r.manager("a")
				r.crowd("m")
				test(r, m, c)
			})
		})
	}
}

// call is wait for any call.
func (m *managed) call(ctx context.Context, name string, c local.Call) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		h, err := m.Acquire(ctx, name, c)
		done <- outcome{h, err}
	}()
	m.rig.pass(time.Second)
	return done
}

func TestAWaiterInALongQueueHearsOfItsEvictionAtOnce(t *testing.T) {
	eachWay(t, func(r *rig, m *managed, c local.Call) {
		done := m.call(r.Context(), "m", c)
		r.pass(5 * time.Second)
		began := time.Now()
		r.DeleteKey(fmt.Sprintf("m/%x", int64(m.leaseID())))
		require.ErrorIs(r, (<-done).err, lockerr.ErrEvicted)
		require.Less(r, time.Since(began), 500*time.Millisecond)
	})
}

func TestAWaiterInALongQueueHearsOfARefusalSoon(t *testing.T) {
	eachWay(t, func(r *rig, m *managed, c local.Call) {
		entered := false
		r.Intercept(func(c simetcd.Call) simetcd.Action {
			if entered && (c.Kind == simetcd.Range || c.Kind == simetcd.TxnReadOnly) {
				return simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}
			}
			entered = entered || c.Kind == simetcd.Txn
			return simetcd.Action{}
		})
		began := time.Now()
		done := m.call(r.Context(), "m", c)
		require.ErrorIs(r, (<-done).err, rpctypes.ErrPermissionDenied)
		require.Less(r, time.Since(began), 3*time.Second)
		r.Intercept(nil)
	})
}

// badContext is a context of a client whose Done panics from a call on.
type badContext struct {
	context.Context
	left atomic.Int32
}

func (c *badContext) Done() <-chan struct{} {
	if c.left.Add(-1) < 0 {
		panic("of the context")
	}
	return c.Context.Done()
}

// A context that panics ends its caller, and not the lock manager: it can be closed.
func TestAContextThatPanicsLeavesNoDriver(t *testing.T) {
	for way, crowd := range map[string]int64{"of an unmarked entry": 0, "of a marked one": -1} {
		for n := range int32(12) {
			t.Run(fmt.Sprint(way, ", after ", n, " calls"), func(t *testing.T) {
				simulate(t, func(r *rig) {
					m := r.managerOf("a", crowd)
					r.crowd("m")
					ctx, cancel := context.WithTimeout(r.Context(), 3*time.Second)
					defer cancel()
					bad := &badContext{Context: ctx}
					bad.left.Store(n)
					panicked := make(chan any, 1)
					go func() {
						defer func() { panicked <- recover() }()
						_, err := m.Acquire(bad, "m", exclusive())
						if n > 5 {
							panic(err) // the time was up before the context had to panic
						}
					}()
					r.pass(5 * time.Second)
					m.Close()
					m.end(errEnded)
					m.Wait() // synctest fails if it blocks for ever
					require.NotNil(r, <-panicked)
				})
			})
		}
	}
}
