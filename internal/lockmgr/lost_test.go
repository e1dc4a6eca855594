package lockmgr

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/sweeper"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// A writer downgrades while etcd is asked why its key is gone, and then the lease ends.
func TestADowngradeDuringALossEndsWithTheLease(t *testing.T) {
	for name, lost := range map[string]func(r *rig, a *managed){
		"its lease is found to be revoked": func(r *rig, a *managed) {
			r.Intercept(func(c simetcd.Call) simetcd.Action {
				if c.Kind == simetcd.LeaseTimeToLive {
					return simetcd.Action{DelayReply: 300 * time.Millisecond}
				}
				return simetcd.Action{}
			})
			r.RevokeLease(a.present.ID())
		},
		"its lease ends": func(r *rig, a *managed) {
			r.ignoreQuestions(1000)
			time.AfterFunc(30*time.Millisecond, func() { a.present.End(errEnded) })
			r.RevokeLease(a.present.ID())
		},
		"its session ends": func(r *rig, a *managed) {
			r.ignoreQuestions(1000)
			time.AfterFunc(30*time.Millisecond, a.close)
			r.RevokeLease(a.present.ID())
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(r *rig) {
				a := r.manager("a")
				writer := a.lock("m", exclusive())
				r.pass(5 * time.Second)
				lost(r, a)
				time.Sleep(20 * time.Millisecond)
				require.NoError(r, writer.Err())
				began := time.Now()
				reader, err := writer.Downgrade(r.Context())
				require.Less(r, time.Since(began), time.Second)
				if err == nil {
					<-reader.Context().Done()
				}
				r.Intercept(nil)
			})
		})
	}
}

func TestAHoldAtTheEndOfItsSessionIsNotCountedAsLost(t *testing.T) {
	simulate(t, func(r *rig) {
		a := r.manager("a")
		a.lock("m", exclusive())
		a.lock("n", shared())
		a.close()
		require.Zero(r, a.Stats().Lost)
	})
}

func TestAnEvictedHoldIsCountedAsLostOnce(t *testing.T) {
	simulate(t, func(r *rig) {
		a := r.manager("a")
		var all []*Hold
		for i := range 50 {
			all = append(all, a.lock("m"+strconv.Itoa(i), exclusive()))
		}
		r.pass(5 * time.Second)
		for _, h := range all {
			h.Deletion().Of.Lose(lockerr.Lost(lockerr.ErrEvicted))
		}
		a.present.End(errEnded)
		r.pass(time.Second)
		require.EqualValues(r, len(all), a.Stats().Lost)
	})
}

func TestACallUnderTheNextLeaseDoesNotWaitForASweepUnderTheLast(t *testing.T) {
	simulate(t, func(r *rig) {
		a := r.manager("a")
		hangs := true
		r.Intercept(func(simetcd.Call) simetcd.Action { return simetcd.Action{DropRequest: hangs} })
		a.sweeper.Suspect(a.present, "m", wire.Slot{}, sweeper.Many, sweeper.Soon)
		r.pass(10 * time.Millisecond)
		hangs = false
		a.present.End(errEnded)
		r.pass(time.Millisecond)
		a.lend()
		began := time.Now()
		h := a.lock("m", exclusive())
		require.Less(r, time.Since(began), 100*time.Millisecond)
		r.unlock(h)
	})
}
