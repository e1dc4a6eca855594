package queue

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// A wrong assumption changes the Enter that follows it, and no later one.
func TestASurpriseIsForgotten(t *testing.T) {
	simulate(t, func(r *rig) {
		a, b := r.queue("a"), r.queue("b")
		want := Want{Lease: r.GrantLease(time.Hour), Value: "v"}
		once := func() *Entry {
			e, err := a.EnterOnce(r.ctx, want)
			require.NoError(r, err)
			return e
		}
		require.NoError(r, a.Leave(r.ctx, once(), false))
		theirs := r.enter(b)
		require.Nil(r, once(), "a wrong assumption, and then no caller wants it any more")
		require.NoError(r, b.Leave(r.ctx, theirs, false))
		require.NoError(r, a.Leave(r.ctx, once(), false))
		before := r.Client("a").Count(simetcd.Watch)
		e, _, err := a.Enter(r.ctx, want)
		require.NoError(r, err)
		require.True(r, e.First())
		require.Equal(r, before, r.Client("a").Count(simetcd.Watch))
		require.False(r, a.Viewed())
	})
}

// A cache that was opened before an entry that is not written shows nothing, and is closed.
func TestAViewWithoutAnEntryIsClosed(t *testing.T) {
	simulate(t, func(r *rig) {
		a, b := r.queue("a"), r.queue("b")
		want := Want{Lease: r.GrantLease(time.Hour), Value: "v"}
		e, err := a.EnterOnce(r.ctx, want)
		require.NoError(r, err)
		require.NoError(r, a.Leave(r.ctx, e, false))
		r.enter(b)
		e, err = a.EnterOnce(r.ctx, want)
		require.NoError(r, err)
		require.Nil(r, e)
		watches := r.Client("a").Count(simetcd.Watch)
		r.Intercept(func(c simetcd.Call) simetcd.Action {
			return simetcd.Action{DropRequest: c.Client == "a" && c.Kind == simetcd.Txn}
		})
		ctx, cancel := context.WithTimeout(r.ctx, 500*time.Millisecond)
		defer cancel()
		_, unsure, err := a.Enter(ctx, want)
		require.ErrorIs(r, err, context.DeadlineExceeded)
		require.True(r, unsure)
		require.Greater(r, r.Client("a").Count(simetcd.Watch), watches, "there was one")
		require.False(r, a.Viewed())
	})
}

// A try that was admitted beside others did not find the queue empty.
func TestATryBesideOthersFoundSomebody(t *testing.T) {
	simulate(t, func(r *rig) {
		a, b := r.queue("a"), r.queue("b")
		want := Want{Lease: r.GrantLease(time.Hour), Value: `{"since":"2000-01-01T00:00:00Z","mode":"shared"}`, Rule: Shared()}
		_, _, err := b.Enter(r.ctx, want)
		require.NoError(r, err)
		want.Lease = r.GrantLease(time.Hour)
		e, _, err := a.TryEnter(r.ctx, want)
		require.NoError(r, err)
		require.True(r, e.First())
		require.False(r, a.recentlyEmpty())
		require.EqualValues(r, 1, a.size.Load())
	})
}

// A watch that hangs delays the entry only for a moment.
func TestAWatchThatHangsCostsNoPlace(t *testing.T) {
	simulate(t, func(r *rig) {
		a, b := r.queue("a"), r.queue("b")
		want := Want{Lease: r.GrantLease(time.Hour), Value: "v"}
		e, err := a.EnterOnce(r.ctx, want)
		require.NoError(r, err)
		require.NoError(r, a.Leave(r.ctx, e, false))
		theirs := r.enter(b)
		e, err = a.EnterOnce(r.ctx, want)
		require.NoError(r, err)
		require.Nil(r, e)
		r.Intercept(func(c simetcd.Call) simetcd.Action {
			return simetcd.Action{DropRequest: c.Kind == simetcd.Watch}
		})
		began := time.Now()
		e, _, err = a.Enter(r.ctx, want)
		require.NoError(r, err)
		require.Less(r, time.Since(began), 200*time.Millisecond)
		r.Intercept(nil)
		got := r.await(a, e)
		time.Sleep(3 * time.Second)
		require.NoError(r, b.Leave(r.ctx, theirs, false))
		require.NoError(r, (<-got).err)
		a.Close()
	})
}
