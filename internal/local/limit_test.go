package local

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// A session that was closed stayed in memory until the limit of its last hold.
func TestTheTimerOfALimitIsStopped(t *testing.T) {
	for name, end := range map[string]func(r *rig, h *Hold){
		"the hold is released":  func(r *rig, h *Hold) { r.release(h) },
		"its key is deleted":    func(_ *rig, h *Hold) { h.owned.Lose(lockerr.ErrEvicted) },
		"its lease has ended":   func(r *rig, _ *Hold) { r.lease.End(lockerr.ErrExpired) },
		"its session is closed": func(r *rig, _ *Hold) { r.end(lockerr.ErrSessionClosed) },
	} {
		for fires, after := range map[int]time.Duration{0: time.Minute, 1: time.Hour} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t)
					h, _ := r.hold("m", r.waiter())
					r.young.Drop(h.owned.young) // its key is not watched
					fired := 0
					h.Limit(time.Hour, nil, func() { fired++; h.EndOverdue() })
					time.Sleep(after)
					synctest.Wait()
					require.Equal(t, fires, fired)
					end(r, h)
					time.Sleep(2 * time.Hour)
					require.Equal(t, fires, fired)
				})
			})
		}
	}
}
