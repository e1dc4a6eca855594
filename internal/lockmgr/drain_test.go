package lockmgr

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// A drain that waits for a doubt ends with the lease.
func TestADrainThatWaitsForADoubtEndsWithTheLease(t *testing.T) {
	simulate(t, func(r *rig) {
		m := r.manager("a")
		r.Intercept(func(c simetcd.Call) simetcd.Action { return simetcd.Action{DropRequest: c.Kind == simetcd.Txn} })
		ctx, cancel := context.WithCancel(r.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		defer cancel()
		_, err := m.Acquire(ctx, "m", exclusive())
		require.Error(r, err)
		r.pass(10 * time.Millisecond)
		require.Equal(r, 1, m.Snapshot().Keys.Suspected)
		r.Intercept(nil)
		done := make(chan error, 1)
		go func() { done <- m.Drain(r.Context()) }()
		r.pass(10 * time.Millisecond)
		began := time.Now()
		m.present.End(errEnded)
		require.NoError(r, <-done)
		require.Less(r, time.Since(began), time.Second)
	})
}
