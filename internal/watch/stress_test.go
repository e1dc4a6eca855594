package watch

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Whatever happens to the streams, a watch tells all that comes after its revision, in order and
// without a hole, until it ends.
func TestAWatchHasNoHole(t *testing.T) {
	for seed := range uint64(10) {
		simulate(t, func(r *rig) {
			chance := rand.New(rand.NewPCG(seed, 0))
			r.set(func() { r.blind = seed%4 == 0 })
			const keys = 3
			var mu sync.Mutex
			written := make(map[string][]int64)
			over := make(chan struct{})
			var all sync.WaitGroup
			told := 0
			for reader := range 12 {
				own := rand.New(rand.NewPCG(seed, uint64(reader)+1))
				all.Go(func() {
					for {
						select {
						case <-over:
							return
						case <-time.After(time.Duration(own.IntN(20)) * time.Millisecond):
						}
						key := fmt.Sprint("k/", own.IntN(keys))
						w := r.Open(r.ctx, bound, key)
						if w == nil {
							continue
						}
						var got []int64
						stop := time.After(time.Duration(own.IntN(400)) * time.Millisecond)
						for open := true; open; {
							select {
							case resp, ok := <-w.Events():
								for _, ev := range resp.Events {
									got = append(got, ev.Kv.ModRevision)
								}
								open = ok
							case <-stop:
								if own.IntN(8) == 0 {
									w.MoveOn()
								}
								w.Stop()
							case <-over:
								open = false
							}
							if own.IntN(3) == 0 {
								time.Sleep(time.Duration(own.IntN(50)) * time.Millisecond)
							}
						}
						w.Stop()
						mu.Lock()
						var expected []int64
						for _, rev := range written[key] {
							if rev > w.Since() && len(expected) < len(got) {
								expected = append(expected, rev)
							}
						}
						if !equal(expected, got) {
							r.Errorf("seed %d: since %d: told %v, expected %v", seed, w.Since(), got, expected)
						}
						told += len(got)
						mu.Unlock()
					}
				})
			}
			for range 2000 {
				time.Sleep(time.Duration(chance.IntN(4)) * time.Millisecond)
				mu.Lock()
				key := fmt.Sprint("k/", chance.IntN(keys))
				written[key] = append(written[key], r.put(key))
				mu.Unlock()
				switch chance.IntN(300) {
				case 0:
					r.client.Reset()
				case 1:
					r.CancelWatches("")
				case 2:
					r.client.CutReplies()
				case 3, 4:
					r.client.Heal()
				case 5:
					r.client.Cut()
				case 6, 7:
					r.client.Resume()
				}
			}
			close(over)
			all.Wait()
			require.Greater(r, told, 1000)
		})
	}
}

func equal(a, b []int64) bool { return fmt.Sprint(a) == fmt.Sprint(b) }
