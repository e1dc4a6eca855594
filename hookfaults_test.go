package etcdlock

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
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

// Waiting is counted by the clock that deadlines are counted by.
func TestTheTimeOfAWaitCountsTheSleepOfTheMachine(t *testing.T) {
	simulate(t, func(w *world) {
		var asleep atomic.Int64
		now := bubbleClock()
		var waited []time.Duration
		s := w.session("a", WithTTL(time.Minute), withClock(func() time.Duration { return now() + time.Duration(asleep.Load()) }),
			WithTrace(&Trace{AcquireEnd: func(_ context.Context, i AcquireEndInfo) { waited = append(waited, i.Waited.Round(time.Second)) }}))
		theirs := w.lock(NewMutex(w.session("b"), "m"))
		waits := start(w, NewMutex(s, "m").Lock)
		w.pass(2 * time.Second)
		asleep.Store(int64(30 * time.Second))
		w.unlock(theirs.Unlock)
		w.unlock(waits.get().Unlock)
		require.Equal(w, []time.Duration{32 * time.Second}, waited)
	})
}

// A gauge that one trace keeps goes up and down in pairs, whatever another trace does.
func TestAHookThatPanicsKeepsNothingFromOtherTraces(t *testing.T) {
	simulate(t, func(w *world) {
		held := 0
		s := w.session("a", WithTrace(
			&Trace{AcquireEnd: func(context.Context, AcquireEndInfo) { panic("of a hook") }},
			&Trace{
				AcquireEnd: func(context.Context, AcquireEndInfo) { held++ },
				HoldEnd:    func(context.Context, HoldEndInfo) { held-- },
			}))
		require.PanicsWithValue(w, "of a hook", func() { _, _ = NewMutex(s, "m").Lock(w.ctx) })
		w.pass(time.Second)
		require.Zero(w, held)
	})
}

func TestALockerReportsItsReleaseInTheGoroutineOfItsCall(t *testing.T) {
	simulate(t, func(w *world) {
		var told []string
		s := w.session("a", WithTrace(&Trace{
			HoldEnd:    func(_ context.Context, i HoldEndInfo) { told = append(told, "end "+ErrorType(i.Cause)) },
			ReleaseEnd: func(_ context.Context, i ReleaseEndInfo) { told = append(told, "release "+ErrorType(i.Err)) },
		}))
		l := NewMutex(s, "m").Locker()
		l.Lock()
		l.Unlock() //nolint:staticcheck // an empty section
		require.Equal(w, []string{"end released", "release "}, told)
		l.Lock()
		w.Client("a").Cut()
		w.pass(2 * ttl)
		l.Unlock()
		require.Equal(w, []string{"end released", "release ", "end expired", "release expired"}, told)
	})
}

// A count of the sessions in a state would be wrong for good.
func TestNoStateOfASessionIsDroppedForAHookThatBlocks(t *testing.T) {
	simulate(t, func(w *world) {
		hang := make(chan struct{})
		var states []State
		s := w.session("a", WithTTL(2*time.Second), WithTrace(&Trace{
			Renewal:      func(context.Context, RenewalInfo) { <-hang },
			SessionState: func(_ context.Context, i SessionStateInfo) { states = append(states, i.To) },
		}))
		w.pass(20 * time.Minute) // of more renewals than are kept
		require.NoError(w, s.Close(w.ctx))
		close(hang)
		synctest.Wait()
		require.Equal(w, []State{StateConnected, StateClosed}, states)
	})
}
