package lazyctx

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	errFirst  = errors.New("first")
	errSecond = errors.New("second")
)

func TestTheFirstCauseCounts(t *testing.T) {
	parent, cancel := context.WithCancelCause(t.Context())
	c := New(parent)
	require.NoError(t, c.Cause())
	c.Cancel(errFirst)
	c.Cancel(errSecond)
	require.Equal(t, errFirst, c.Cause())
	require.Equal(t, errFirst, context.Cause(c.Context()), "a context that is made after the end")
	cancel(errSecond)
	require.Equal(t, errFirst, c.Cause())
}

// A context that is made after the end tells the cause of this end, though the parent has ended since.
func TestTheParentsLaterCauseDoesNotCount(t *testing.T) {
	parent, cancel := context.WithCancelCause(t.Context())
	c := New(parent)
	c.Cancel(errFirst)
	cancel(errSecond)
	require.Equal(t, errFirst, context.Cause(c.Context()))
}

func TestAContextEndsWithCancel(t *testing.T) {
	c := New(t.Context())
	ctx := c.Context()
	require.NoError(t, ctx.Err())
	require.Same(t, ctx, c.Context())
	c.Cancel(errFirst)
	require.Equal(t, errFirst, context.Cause(ctx))
}

// The parent's end is seen though nothing was made that listens to it.
func TestTheEndOfTheParentIsSeenWithoutAContext(t *testing.T) {
	outer, cancel := context.WithCancelCause(t.Context())
	var c Context
	c.Within(outer)
	require.NoError(t, c.Cause())
	cancel(errFirst)
	c.Cancel(errSecond)
	require.Equal(t, errFirst, c.Cause())
	require.Nil(t, c.whole, "a context that no caller has asked for")
}

func TestReleaseEndsTheContextAlone(t *testing.T) {
	c := New(t.Context())
	c.Release() // there is no context
	ctx := c.Context()
	c.Release()
	require.ErrorIs(t, ctx.Err(), context.Canceled)
	require.NoError(t, c.Cause())
}

// A part ends with the whole, with the parent, or alone.
func TestAPartEndsWithTheWhole(t *testing.T) {
	parent, cancel := context.WithCancelCause(t.Context())
	whole, other := New(parent), New(parent)
	alone, first, second := whole.Part(), whole.Part(), other.Part()
	alone.End(errSecond)
	require.Equal(t, errSecond, context.Cause(alone))
	require.NoError(t, first.Err())
	whole.Cancel(errFirst)
	require.Equal(t, errFirst, context.Cause(first))
	require.Equal(t, errSecond, context.Cause(alone))
	require.Nil(t, whole.parts)
	require.NoError(t, second.Err())
	cancel(errSecond)
	require.Equal(t, errSecond, context.Cause(second))
	require.Equal(t, errFirst, context.Cause(whole.Part()), "a part that is made after the end")
	first.End(errSecond)
	require.Equal(t, errFirst, context.Cause(first))
}

// A context that is asked for while c ends has ended too. (The race detector tells more.)
func TestACancelAndARequestForTheContextMeet(t *testing.T) {
	for range 1000 {
		c := New(t.Context())
		var both sync.WaitGroup
		both.Go(func() { c.Cancel(errFirst) })
		both.Go(func() { c.Context() })
		both.Wait()
		require.Equal(t, errFirst, context.Cause(c.Context()))
	}
}

// Contexts of all branches end with their root, and with its cause.
func TestARootEndsTheContextsOfAllBranches(t *testing.T) {
	parent, cancel := context.WithCancelCause(t.Context())
	root := NewRoot(parent)
	var all []context.Context
	for range 2*inRow + 1 {
		all = append(all, New(root).Context())
	}
	require.Len(t, root.branches, 3)
	one := New(root)
	alone := one.Context()
	one.Cancel(errFirst)
	require.Equal(t, errFirst, context.Cause(alone))
	for _, ctx := range all {
		require.NoError(t, ctx.Err())
	}
	cancel(errSecond)
	for _, ctx := range all {
		require.Equal(t, errSecond, context.Cause(ctx))
	}
	require.Equal(t, errSecond, context.Cause(New(root).Part()), "a context that is made after the end")
}

// A session that lasts has no more branches than a few.
func TestARootHasFewBranches(t *testing.T) {
	root := NewRoot(t.Context())
	for range 2 * inRow * mostBranches {
		c := New(root)
		_ = c.Context()
		c.Release()
	}
	require.Len(t, root.branches, mostBranches)
}

func TestALatchTellsThoseBeforeAndAfter(t *testing.T) {
	var l Latch
	before := l.Done()
	select {
	case <-before:
		t.Fatal("it is not set")
	default:
	}
	l.Set()
	<-before
	<-l.Done()

	var early Latch // set before a caller waits
	early.Set()
	<-early.Done()
}
