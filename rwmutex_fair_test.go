package etcdlock

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A writer comes in after at most a time slice and one critical section, however many
// readers of other sessions, and of how many goroutines, come without a gap.
func TestAWriterDoesNotStarveBehindReaders(t *testing.T) {
	simulate(t, func(w *world) {
		const (
			slice    = 50 * time.Millisecond
			critical = 30 * time.Millisecond
		)
		stop := make(chan struct{})
		var readers sync.WaitGroup
		reads := make([]int, 18)
		sessions := []*Session{w.session("reader-0"), w.session("reader-1"), w.session("reader-2")}
		for i := range reads {
			m := NewRWMutex(sessions[i%3], "m", WithTimeSlice(slice))
			random := rand.New(rand.NewPCG(1, uint64(i)))
			readers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					l := w.read(m)
					reads[i]++
					time.Sleep(critical - time.Duration(random.Int64N(int64(critical/2)))) // each session has a reader at all times
					w.unlock(l.Unlock)
				}
			})
		}
		w.pass(time.Second)
		m := NewRWMutex(w.session("writer"), "m")
		worst := time.Duration(0)
		for range 50 {
			began := time.Now()
			l := w.write(m)
			worst = max(worst, time.Since(began))
			w.unlock(l.Unlock)
			time.Sleep(100 * time.Millisecond)
		}
		close(stop)
		readers.Wait()
		t.Logf("a writer waited for %v at most, with a slice of %v and critical sections of %v", worst, slice, critical)
		require.Less(w, worst, slice+critical+20*time.Millisecond, "and the way of a few requests")
		for i, n := range reads {
			require.Greater(w, n, 50, "reader %d did not get in often", i)
		}
		w.allGone()
	})
}

// The other way round, readers do not starve behind writers.
func TestAReaderDoesNotStarveBehindWriters(t *testing.T) {
	simulate(t, func(w *world) {
		stop := make(chan struct{})
		var writers sync.WaitGroup
		sessions := []*Session{w.session("writer-0"), w.session("writer-1"), w.session("writer-2")}
		for i := range 6 {
			m := NewRWMutex(sessions[i%3], "m")
			writers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					l := w.write(m)
					time.Sleep(20 * time.Millisecond)
					w.unlock(l.Unlock)
				}
			})
		}
		w.pass(time.Second)
		m := NewRWMutex(w.session("reader"), "m")
		for range 20 {
			began := time.Now()
			l := w.read(m)
			require.Less(w, time.Since(began), 300*time.Millisecond, "the turns of three sessions")
			w.unlock(l.Unlock)
		}
		close(stop)
		writers.Wait()
		w.allGone()
	})
}

// Readers in front of a writer go in together; those behind wait for it, and go in together.
func TestReadersBehindAWriterWaitForIt(t *testing.T) {
	simulate(t, func(w *world) {
		a, b, c := NewRWMutex(w.session("a"), "m"), NewRWMutex(w.session("b"), "m"), NewRWMutex(w.session("c"), "m")
		r := w.read(a)
		writer := start(w, b.Lock)
		w.pass(time.Second)
		behind := []*pending[*ReadLock]{start(w, a.RLock), start(w, b.RLock), start(w, c.RLock)}
		w.pass(time.Second)
		for _, p := range behind {
			p.isWaiting()
		}
		w.unlock(r.Unlock)
		l := writer.get()
		w.pass(time.Second)
		for _, p := range behind {
			p.isWaiting()
		}
		w.unlock(l.Unlock)
		for _, p := range behind {
			defer w.unlock(p.get().Unlock)
		}
	})
}

// trap A3: a writer that gives up lets in the readers behind it, including those of its session.
func TestReadersBehindAWriterWhoGivesUpGoIn(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewRWMutex(w.session("a"), "m"), NewRWMutex(w.session("b"), "m")
		r := w.read(a)
		writer := start(w, b.Lock)
		w.pass(time.Second)
		own, other := start(w, b.RLock), start(w, a.RLock)
		w.pass(time.Second)
		own.isWaiting()
		other.isWaiting()
		writer.cancel()
		w.unlock(own.get().Unlock)
		w.unlock(other.get().Unlock)
		require.NoError(w, r.Err())
		w.unlock(r.Unlock)
		w.empty("m")
		w.allGone()
	})
}

// A crowd is more than a watch on the whole queue is used for.
func TestACrowdOfReadersAndWriters(t *testing.T) {
	simulate(t, func(w *world) {
		const sessions = 40
		l := w.write(NewRWMutex(w.session("first"), "m"))
		var mu sync.Mutex
		readers, writers, most := 0, 0, 0
		enter := func(n *int) {
			mu.Lock()
			defer mu.Unlock()
			*n++
			most = max(most, readers)
			if writers > 1 || writers > 0 && readers > 0 {
				w.Errorf("%d writers and %d readers", writers, readers)
			}
		}
		leave := func(n *int) {
			mu.Lock()
			defer mu.Unlock()
			*n--
		}
		var work sync.WaitGroup
		for i := range sessions {
			m := NewRWMutex(w.session(fmt.Sprint("s", i)), "m")
			work.Go(func() {
				for round := range 3 {
					if (i+round)%5 == 0 {
						l := w.write(m)
						enter(&writers)
						time.Sleep(10 * time.Millisecond)
						leave(&writers)
						w.unlock(l.Unlock)
						continue
					}
					l := w.read(m)
					enter(&readers)
					time.Sleep(10 * time.Millisecond)
					leave(&readers)
					w.unlock(l.Unlock)
				}
			})
		}
		w.pass(2 * time.Second)
		require.Len(w, w.Keys("m/"), sessions+1)
		w.unlock(l.Unlock)
		work.Wait()
		require.Greater(w, most, 3, "readers hold together")
		w.allGone()
	})
}
