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
