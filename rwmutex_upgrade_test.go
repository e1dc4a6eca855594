package etcdlock

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func TestAnUpgradeIsGrantedWhenTheOtherReadersHaveLeft(t *testing.T) {
	simulate(t, func(w *world) {
		a, b, c := NewRWMutex(w.session("a"), "m"), NewRWMutex(w.session("b"), "m"), NewRWMutex(w.session("c"), "m")
		r, own, other := w.read(a), w.read(a), w.read(b)
		writer := start(w, c.Lock)
		w.pass(time.Second)
		up := start(w, r.Upgrade)
		w.pass(time.Second)
		late := start(w, b.RLock)
		lateOwn := start(w, a.RLock)
		w.pass(time.Second)
		up.isWaiting()
		late.isWaiting()
		lateOwn.isWaiting()
		w.unlock(own.Unlock)
		w.pass(time.Second)
		up.isWaiting()
		require.NoError(w, r.Err(), "it reads meanwhile")
		w.unlock(other.Unlock)
		l := up.get()
		require.ErrorIs(w, r.Err(), ErrReleased)
		require.NoError(w, l.Err())
		w.pass(time.Second)
		writer.isWaiting()
		late.isWaiting()
		lateOwn.isWaiting()
		w.unlock(l.Unlock)
		w.unlock(writer.get().Unlock)
		w.unlock(late.get().Unlock)
		w.unlock(lateOwn.get().Unlock)
		w.empty("m")
		w.allGone()
	})
}

// trap D5
func TestOfTwoUpgradesOneIsToldAtOnce(t *testing.T) {
	for _, session := range []string{"a", "b"} {
		simulate(t, func(w *world) {
			a := NewRWMutex(w.session("a"), "m")
			other := a
			if session != "a" {
				other = NewRWMutex(w.session(session), "m")
			}
			r1, r2 := w.read(a), w.read(other)
			up := start(w, r1.Upgrade)
			w.pass(time.Second)
			began := time.Now()
			_, err := r2.Upgrade(w.ctx)
			require.ErrorIs(w, err, ErrUpgradeConflict)
			require.Less(w, time.Since(began), 100*time.Millisecond)
			require.NoError(w, r2.Err(), "it reads as before")
			up.isWaiting()
			w.unlock(r2.Unlock)
			w.unlock(up.get().Unlock)
			w.empty("m")
			w.allGone()
		})
	}
}

// trap D5, at the same instant, and with answers that are lost: one goes on, all others are
// told.
func TestOfUpgradesAtTheSameInstantOneGoesOn(t *testing.T) {
	for seed := range uint64(60) {
		simulateWith(t, simetcd.Config{Seed: seed}, func(w *world) {
			type try struct {
				r  *ReadLock
				up *pending[*WriteLock]
			}
			var tries []try
			for i := range 4 {
				m := NewRWMutex(w.session(fmt.Sprint("s", i)), "m")
				tries = append(tries, try{r: w.read(m)})
			}
			if seed%3 == 0 {
				w.next("s1", simetcd.Txn, simetcd.Action{DropReply: true})
			}
			var waiting *pending[*WriteLock]
			if seed%2 == 0 {
				waiting = start(w, NewRWMutex(w.session("writer"), "m").Lock)
				w.pass(time.Duration(seed) * time.Millisecond / 2)
			}
			for i := range tries {
				tries[i].up = start(w, tries[i].r.Upgrade)
			}
			w.pass(10 * time.Second)
			var told, goesOn []try
			for _, try := range tries {
				select {
				case <-try.up.done:
					try.up.fails(ErrUpgradeConflict)
					told = append(told, try)
				default:
					goesOn = append(goesOn, try)
				}
			}
			require.Len(w, goesOn, 1)
			for _, try := range told {
				w.unlock(try.r.Unlock)
			}
			w.unlock(goesOn[0].up.get().Unlock)
			if waiting != nil {
				w.unlock(waiting.get().Unlock)
			}
			w.empty("m")
			w.allGone()
		})
	}
}

func TestACancelledUpgradeLeavesTheReadLock(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewRWMutex(w.session("a"), "m"), NewRWMutex(w.session("b"), "m")
		r, other := w.read(a), w.read(b)
		up := start(w, r.Upgrade)
		w.pass(time.Second)
		late, own := start(w, b.RLock), start(w, a.RLock)
		w.pass(time.Second)
		late.isWaiting()
		own.isWaiting()
		up.cancel()
		up.fails(context.Canceled)
		require.NoError(w, r.Err())
		w.unlock(late.get().Unlock)
		w.unlock(own.get().Unlock)
		// At once again, as the mark is being taken back: that is no conflict.
		again := start(w, r.Upgrade)
		w.pass(time.Second)
		again.cancel()
		again.fails(context.Canceled)
		again = start(w, r.Upgrade)
		w.unlock(other.Unlock)
		w.unlock(again.get().Unlock)
		w.allGone()
	})
}

// Readers of other sessions stop sharing a key without asking, because they would block the upgrade
// without end.
func TestAnUpgradeDoesNotStarveBehindReaders(t *testing.T) {
	for _, younger := range []bool{false, true} {
		simulate(t, func(w *world) {
			const slice = 50 * time.Millisecond
			a := NewRWMutex(w.session("a"), "m")
			var r *ReadLock
			if younger {
				r = w.read(a)
			}
			stop := make(chan struct{})
			var readers sync.WaitGroup
			sessions := []*Session{w.session("reader-0"), w.session("reader-1")}
			for i := range 4 {
				m := NewRWMutex(sessions[i%2], "m", WithTimeSlice(slice))
				readers.Go(func() {
					time.Sleep(time.Duration(i) * 3 * time.Millisecond)
					hold := w.read(m)
					for {
						select {
						case <-stop:
							w.unlock(hold.Unlock)
							return
						default:
						}
						time.Sleep(10 * time.Millisecond)
						ctx, cancel := context.WithTimeout(w.ctx, 30*time.Millisecond)
						next, err := m.RLock(ctx)
						cancel()
						w.unlock(hold.Unlock)
						if err != nil {
							next = w.read(m)
						}
						hold = next
					}
				})
			}
			w.pass(time.Second)
			if !younger {
				r = w.read(a)
			}
			for range 20 {
				began := time.Now()
				l := start(w, r.Upgrade).get()
				require.Less(w, time.Since(began), slice+100*time.Millisecond)
				w.pass(10 * time.Millisecond)
				r = start(w, l.Downgrade).get()
				w.pass(100 * time.Millisecond)
			}
			close(stop)
			w.unlock(r.Unlock)
			readers.Wait()
			w.allGone()
		})
	}
}

// Readers that come and go change the queue all the time.
func TestAnUpgradeGetsItsMarkWhileTheQueueChanges(t *testing.T) {
	simulate(t, func(w *world) {
		r := w.read(NewRWMutex(w.session("a"), "m"))
		w.Client("a").SetLatency(20*time.Millisecond, 20*time.Millisecond)
		stop := make(chan struct{})
		var readers sync.WaitGroup
		for i := range 8 {
			m := NewRWMutex(w.session(fmt.Sprint("reader-", i)), "m")
			readers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						w.unlock(w.read(m).Unlock)
					}
				}
			})
		}
		w.pass(100 * time.Millisecond)
		began := time.Now()
		l := start(w, r.Upgrade).get()
		require.Less(w, time.Since(began), 300*time.Millisecond)
		w.unlock(l.Unlock)
		close(stop)
		readers.Wait()
		w.allGone()
	})
}

func TestAnUpgradeAndTheWritersAndReadersInLine(t *testing.T) {
	simulate(t, func(w *world) {
		a, b, c := NewRWMutex(w.session("a"), "m"), NewRWMutex(w.session("b"), "m"), NewRWMutex(w.session("c"), "m")
		r := w.read(a)
		writer := start(w, b.Lock)
		w.pass(time.Second)
		behind := start(w, c.RLock)
		w.pass(time.Second)
		// There is no other holder: readers behind the writer are not waited for.
		l := start(w, r.Upgrade).get()
		// The writer gives up. The readers behind it are not admitted beside the upgraded one.
		writer.cancel()
		writer.fails(context.Canceled)
		w.pass(time.Second)
		behind.isWaiting()
		w.unlock(l.Unlock)
		w.unlock(behind.get().Unlock)
		w.allGone()
	})
}
