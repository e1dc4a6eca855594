package etcdlock

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A conversion whose hook panics has no caller that could release the new hold.
func TestAHookThatPanicsInAConversionLeavesNoHold(t *testing.T) {
	simulate(t, func(w *world) {
		var panics atomic.Bool
		s := w.session("a", WithTrace(&Trace{HoldEnd: func(context.Context, HoldEndInfo) {
			if panics.CompareAndSwap(true, false) {
				panic("of a hook")
			}
		}}))
		read := w.read(NewRWMutex(s, "rw"))
		panics.Store(true)
		require.Panics(w, func() { _, _ = read.Upgrade(w.ctx) })
		l, err := NewRWMutex(w.session("b"), "rw").Lock(w.timeout(time.Minute))
		require.NoError(w, err)
		w.unlock(l.Unlock)
	})
}

func TestAHookThatChangesNamesChangesNoLock(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a", WithTrace(&Trace{AcquireStart: func(ctx context.Context, i AcquireStartInfo) context.Context {
			i.Names[0] = "redacted"
			return ctx
		}}))
		m := NewMultiMutex(s, []string{"x", "y"})
		set, err := m.Lock(w.ctx)
		require.NoError(w, err)
		require.Equal(w, []string{"x", "y"}, m.Names())
		w.unlock(set.Unlock)
	})
}

// The session's clock goes on while the machine sleeps, and a hold ends at its deadline.
func TestTheTimeOfAHoldCountsTheSleepOfTheMachine(t *testing.T) {
	simulate(t, func(w *world) {
		var asleep atomic.Int64
		now := bubbleClock()
		var held []time.Duration
		s := w.session("a", WithTTL(time.Minute), withClock(func() time.Duration { return now() + time.Duration(asleep.Load()) }),
			WithTrace(&Trace{HoldEnd: func(_ context.Context, i HoldEndInfo) { held = append(held, i.Held.Round(time.Second)) }}))
		l := w.lock(NewMutex(s, "m"))
		w.pass(2 * time.Second)
		asleep.Store(int64(30 * time.Second))
		w.unlock(l.Unlock)
		require.Equal(w, []time.Duration{32 * time.Second}, held)
	})
}

// The hold continues while the reason of its eviction is read, so the parts are asked for at once.
func TestTheEvictionOfManyNamesIsToldSoon(t *testing.T) {
	simulate(t, func(w *world) {
		var names []string
		for i := range 64 {
			names = append(names, fmt.Sprintf("n%d", i))
		}
		set := w.lockAll(w.session("a"), names...)
		w.pass(time.Second)
		began := time.Now()
		w.DeleteKey(set.Keys()[0])
		<-set.Done()
		require.Less(w, time.Since(began), 50*time.Millisecond)
	})
}
