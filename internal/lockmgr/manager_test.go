package lockmgr

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Many goroutines use 1,000 names of one manager while its keys are deleted and its lease is lost.
// Of each name there is one holder at a time, and in the end nothing is left.
func TestAThousandNamesInOneManager(t *testing.T) {
	const names, callers, rounds = 1000, 64, 150
	simulate(t, func(r *rig) {
		m := r.manager("a")
		var mu sync.Mutex
		held := make(map[string]*Hold)
		var all sync.WaitGroup
		for i := range callers {
			all.Go(func() {
				random := rand.New(rand.NewPCG(1, uint64(i)))
				for range rounds {
					name := fmt.Sprint(random.IntN(names))
					if random.IntN(4) == 0 {
						name = fmt.Sprint(random.IntN(8)) // contended
					}
					request := exclusive()
					request.Try = random.IntN(8) == 0
					if random.IntN(4) == 0 {
						request.Terms.Retention = time.Second
					}
					h, err := m.Acquire(r.Context(), name, request)
					if err != nil {
						continue // refused, or the place was lost
					}
					mu.Lock()
					if other := held[name]; other != nil && h.Err() == nil {
						require.Error(r, other.Err(), "two holders of %s", name)
					}
					held[name] = h
					mu.Unlock()
					time.Sleep(time.Duration(random.IntN(3)) * time.Millisecond)
					mu.Lock()
					if held[name] == h {
						delete(held, name)
					}
					mu.Unlock()
					_ = h.Release(r.Context())
				}
			})
		}
		all.Go(func() {
			for i := range 20 {
				time.Sleep(20 * time.Millisecond)
				for _, kv := range r.Keys(fmt.Sprint(i % 8)) {
					r.DeleteKey(string(kv.Key))
				}
				if i == 10 {
					r.RevokeLease(m.leaseID())
					time.Sleep(ttl)
					m.lend()
				}
			}
		})
		all.Wait()
		r.pass(time.Minute)
		require.Equal(r, nothing, m.Snapshot())
	})
}
