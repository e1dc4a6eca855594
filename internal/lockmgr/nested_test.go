package lockmgr

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/etcdlock/etcdlock/internal/local"
)

// With -race: one goroutine re-enters a hold, while another one waits for a name under the context of
// that hold, as a caller may.
func TestAReentrantCallRunsBesideAWaitUnderItsHold(t *testing.T) {
	simulate(t, func(r *rig) {
		a, b := r.manager("a"), r.manager("b")
		y := b.lock("y", exclusive())
		h := a.lock("m", exclusive())
		under := exclusive()
		under.Carried, under.Reentry = local.CarriedBy(h.Context()), 10
		for range 20 {
			ctx, cancel := context.WithTimeout(h.Context(), time.Millisecond)
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, err := a.Acquire(ctx, "y", under)
				assert.Error(r, err)
			}()
			for range 500 {
				again := a.lock("m", under)
				r.unlock(again)
			}
			<-done
			cancel()
			time.Sleep(10 * time.Millisecond)
		}
		r.unlock(h)
		r.unlock(y)
	})
}
