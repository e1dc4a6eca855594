package sharedtimer

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/require"
)

// use takes a context for a request and releases it.
func use(common, caller context.Context, s *Pool, request func(context.Context)) *Pooled {
	ctx, l := s.Take(common, caller)
	defer l.Release()
	request(ctx)
	return l
}

func TestAPooledContextEndsARequest(t *testing.T) {
	for what, cut := range map[string]func(lease, caller context.CancelFunc){
		"by its time":     func(_, _ context.CancelFunc) {},
		"by its caller":   func(_, caller context.CancelFunc) { caller() },
		"with its common": func(lease, _ context.CancelFunc) { lease() },
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lease, end := context.WithCancel(t.Context())
				caller, cancel := context.WithCancel(t.Context())
				s := NewPool(New(time.Second))
				used := use(lease, caller, s, func(ctx context.Context) {
					time.Sleep(time.Second - time.Nanosecond)
					require.NoError(t, ctx.Err())
					cut(end, cancel)
					<-ctx.Done()
					synctest.Wait()
				})
				require.Empty(t, s.idle, "cancelled, and kept")

				other := context.WithoutCancel(t.Context())
				use(t.Context(), other, s, func(ctx context.Context) { require.NoError(t, ctx.Err()) })
				require.Len(t, s.idle, 1)
				require.NotSame(t, used, s.idle[0])
				end()
				cancel()
			})
		})
	}
}

// What was not cancelled is used again, and nothing of the last request is left on it.
func TestAPooledContextIsReused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewPool(New(time.Second))
		first, cancel := context.WithCancel(t.Context())
		type key struct{}
		timed, end := context.WithTimeout(t.Context(), time.Hour)
		defer end()
		called := context.WithValue(timed, key{}, "of the caller")
		a := use(t.Context(), first, s, func(context.Context) { time.Sleep(900 * time.Millisecond) })
		b := use(t.Context(), called, s, func(ctx context.Context) {
			require.Equal(t, "of the caller", ctx.Value(key{}))
			cancel() // the first one's
			_, bounded := ctx.Deadline()
			require.False(t, bounded, "which would be sent along")
			time.Sleep(900 * time.Millisecond)
			synctest.Wait()
			require.NoError(t, ctx.Err())
		})
		require.Same(t, a, b)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.NoError(t, a.ctx.Err())
	})
}

func TestAPooledContextThatIsUsedOnceIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewPool(New(time.Second))
		ctx, l := s.Take(t.Context(), t.Context())
		l.Once = true
		l.Release()
		require.Error(t, ctx.Err())
		require.Empty(t, s.idle)
	})
}

// Contexts of an unused common context are not kept, because that context would refer to them.
func TestAPoolIsForOneCommonContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewPool(New(time.Second))
		old, next := context.WithoutCancel(t.Context()), t.Context()
		nothing := func(context.Context) {}
		var late *Pooled
		a := use(old, t.Context(), s, func(context.Context) {
			_, late = s.Take(old, t.Context())
			use(old, t.Context(), s, nothing)
		})
		require.Len(t, s.idle, 2)
		b := use(next, t.Context(), s, nothing)
		require.Equal(t, []*Pooled{b}, s.idle)
		require.Error(t, a.ctx.Err(), "left in its common context")
		late.Release()
		require.Error(t, late.ctx.Err(), "left in its common context")
		require.Equal(t, []*Pooled{b}, s.idle)
	})
}

func TestAPoolKeepsABoundedNumberOfContexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewPool(New(time.Second))
		var all []*Pooled
		for range mostIdle + 7 {
			_, l := s.Take(t.Context(), t.Context())
			all = append(all, l)
		}
		for _, l := range all {
			l.Release()
		}
		require.Len(t, s.idle, mostIdle)
		require.Error(t, all[mostIdle].ctx.Err())
	})
}

// A context that is kept does not refer to the context of the last request's caller, which may be large.
func TestAPooledContextDoesNotKeepItsCaller(t *testing.T) {
	s := NewPool(New(time.Second))
	caller := func() weak.Pointer[[1 << 16]byte] {
		type key struct{}
		much := new([1 << 16]byte)
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, much))
		defer cancel()
		use(t.Context(), ctx, s, func(context.Context) {})
		return weak.Make(much)
	}()
	require.Len(t, s.idle, 1)
	for n := 0; n < 100 && caller.Value() != nil; n++ {
		runtime.GC()
	}
	require.True(t, caller.Value() == nil)
	runtime.KeepAlive(s)
}
