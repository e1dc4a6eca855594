package lockmgr

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// A hold that lasts needs no goroutine, however it was granted and whatever it is.
func TestAHoldThatLastsNeedsNoGoroutine(t *testing.T) {
	for name, hold := range map[string]func(r *rig, a, b *managed) (release func()){
		"granted at once": func(r *rig, a, _ *managed) func() {
			h := a.lock("m", exclusive())
			return func() { r.unlock(h) }
		},
		"granted after a wait in a short queue": func(r *rig, a, b *managed) func() {
			other := b.lock("m", exclusive())
			c := a.start("m", exclusive())
			r.pass(time.Second)
			r.unlock(other)
			<-c.done
			return func() { r.unlock(c.hold) }
		},
		"with a waiter of the session": func(r *rig, a, _ *managed) func() {
			h := a.lock("m", exclusive())
			c := a.start("m", exclusive())
			return func() {
				r.unlock(h)
				<-c.done
				r.unlock(c.hold)
			}
		},
		"a reader": func(r *rig, a, _ *managed) func() {
			h := a.lock("m", shared())
			return func() { r.unlock(h) }
		},
		"a writer that becomes a reader": func(r *rig, a, _ *managed) func() {
			w := a.lock("m", exclusive())
			r.pass(time.Second)
			h, err := w.Downgrade(r.Context())
			require.NoError(r, err)
			return func() { r.unlock(h) }
		},
		"several names": func(r *rig, a, _ *managed) func() {
			h, err := a.AcquireAll(r.Context(), []string{"m", "n"}, exclusive())
			require.NoError(r, err)
			return func() { r.unlock(h) }
		},
		"a kept key": func(r *rig, a, _ *managed) func() {
			keeps := exclusive()
			keeps.Terms.Retention = time.Minute
			r.unlock(a.lock("m", keeps))
			return func() {
				keeps.Terms.Retention = 0
				r.unlock(a.lock("m", keeps))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(r *rig) {
				a, b := r.manager("a"), r.manager("b")
				r.unlock(b.lock("before", exclusive())) // what only the first hold starts
				h := a.lock("other", exclusive())
				r.pass(5 * time.Second)
				before := len(simetcd.Goroutines())
				release := hold(r, a, b)
				r.pass(5 * time.Second)
				callers := 0
				if name == "with a waiter of the session" {
					callers = 1
				}
				// A watch by etcd's client has goroutines of the client and one that listens.
				watches := (a.client.Count(simetcd.Watch) - a.client.Count(simetcd.WatchCancel) - 1) * 2
				require.LessOrEqual(r, len(simetcd.Goroutines())-before-callers-watches, 0)
				release()
				r.unlock(h)
				r.pass(5 * time.Second)
				require.Empty(r, r.Keys(""))
			})
		})
	}
}

// The keys of a lease go in one instant. One question tells why, and no local queue is left.
func TestManyKeysThatAreGoneAreAskedForOnce(t *testing.T) {
	simulate(t, func(r *rig) {
		a := r.manager("a")
		holds := make([]*Hold, 100)
		for i := range holds {
			holds[i] = a.lock(string(rune('A'+i)), exclusive())
		}
		reader := a.lock("readers", shared())
		r.pass(5 * time.Second)
		a.client.ResetCounts()
		began := time.Now()
		r.RevokeLease(a.present.ID())
		for _, h := range append(holds, reader) {
			<-h.Context().Done()
			require.ErrorIs(r, h.Err(), lockerr.ErrRevoked)
		}
		require.Less(r, time.Since(began), 20*time.Millisecond)
		r.pass(time.Second)
		require.LessOrEqual(r, a.client.Count(simetcd.LeaseTimeToLive), 2)
		r.pass(2 * queue.Resting)
		require.Zero(r, a.Snapshot().Queues)
		for _, h := range append(holds, reader) {
			require.ErrorIs(r, h.Release(r.Context()), lockerr.ErrRevoked)
		}
		a.lend()
		r.unlock(a.lock("A", exclusive()))
	})
}

// Nor is etcd asked for each key of those that another client deletes at one time.
func TestManyDeletedKeysAreAskedForTogether(t *testing.T) {
	simulate(t, func(r *rig) {
		a := r.manager("a")
		holds := make([]*Hold, 50)
		for i := range holds {
			holds[i] = a.lock(string(rune('A'+i)), exclusive())
		}
		r.pass(5 * time.Second)
		a.client.ResetCounts()
		for _, h := range holds {
			r.DeleteKey(h.Entry().Key)
		}
		r.pass(100 * time.Millisecond)
		for _, h := range holds {
			require.ErrorIs(r, h.Err(), lockerr.ErrEvicted)
		}
		require.LessOrEqual(r, a.client.Count(simetcd.LeaseTimeToLive), 10)
		r.pass(2 * queue.Resting)
		require.Zero(r, a.Snapshot().Queues)
	})
}

// A lease that is lost, or a session that ends, needs no goroutine for each hold.
func TestTheEndOfALeaseNeedsNoGoroutineForEachHold(t *testing.T) {
	for name, end := range map[string]func(m *managed){
		"the lease":   func(m *managed) { m.present.End(errEnded) },
		"the session": func(m *managed) { m.close() },
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(r *rig) {
				a := r.manager("a")
				for i := range 100 {
					a.lock(string(rune('A'+i)), exclusive())
				}
				_, err := a.AcquireAll(r.Context(), []string{"several/m", "several/n"}, exclusive())
				require.NoError(r, err)
				r.pass(5 * time.Second)
				a.lock("young", exclusive())
				end(a)
				r.pass(2 * queue.Resting)
				require.Zero(r, a.Snapshot().Queues)
				require.Zero(r, a.Snapshot().Names)
			})
		})
	}
}

// A caller that waits behind a hold is served by the next lease, or fails with the session.
func TestAWaiterBehindALostHoldIsServed(t *testing.T) {
	simulate(t, func(r *rig) {
		a := r.manager("a")
		h := a.lock("m", exclusive())
		r.pass(5 * time.Second)
		c := a.start("m", exclusive())
		r.DeleteKey(h.Entry().Key)
		<-c.done
		require.NoError(r, c.err)
		require.ErrorIs(r, h.Err(), lockerr.ErrEvicted)
		r.pass(5 * time.Second)
		last := a.start("m", exclusive())
		a.present.End(errEnded)
		<-last.done
		require.ErrorIs(r, last.err, errEnded)
		a.lend()
		r.unlock(a.lock("m", exclusive()))
	})
}
