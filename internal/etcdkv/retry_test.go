package etcdkv

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lockerr"
)

func TestARequestIsTriedUntilItIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		unanswered, err := Retry(t.Context(), Requests(1), func(context.Context) error {
			if tries++; tries < 4 {
				return rpctypes.ErrNoLeader
			}
			return nil
		})
		require.NoError(t, err)
		require.True(t, unanswered)
		require.Equal(t, 4, tries)

		unanswered, err = Retry(t.Context(), Requests(1), func(context.Context) error { return rpctypes.ErrPermissionDenied })
		require.ErrorIs(t, err, rpctypes.ErrPermissionDenied)
		require.False(t, unanswered)
		unanswered, err = Retry(t.Context(), Requests(1), func(context.Context) error { return nil })
		require.NoError(t, err)
		require.False(t, unanswered)
	})
}

// One try has a bound of its own, and the pauses grow: no busy loop.
func TestTriesAreBoundedAndSpacedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs, fails := 0, 0
		why := errors.New("why")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, why)
		defer cancel()
		unanswered, err := Retry(ctx, Requests(1), func(ctx context.Context) error {
			hangs++
			<-ctx.Done()
			return ctx.Err()
		})
		require.True(t, unanswered)
		require.Equal(t, why, err, "the cause")
		require.InDelta(t, 3+56/3.7, hangs, 3, "the first three are shorter")

		ctx, cancel = context.WithTimeoutCause(t.Context(), time.Minute, why)
		defer cancel()
		_, err = Retry(ctx, Requests(1), func(context.Context) error { fails++; return rpctypes.ErrNoLeader })
		require.Equal(t, why, err)
		require.InDelta(t, 85, fails, 40)
	})
}

// A member that hangs answers nothing: the first tries give it a second each, and the next
// one may reach another member.
func TestATryThatHangsIsRepeatedSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, tries := time.Now(), 0
		unanswered, err := Retry(context.Background(), Requests(1), func(ctx context.Context) error {
			if tries++; tries < 3 {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		require.NoError(t, err)
		require.True(t, unanswered)
		require.Less(t, time.Since(began), 2200*time.Millisecond)
	})
}

// etcd may be away for long, and no lease ends the tries of an observer: a late try has its time as
// every other one.
func TestATryHasItsTimeHoweverManyWentBefore(t *testing.T) {
	for n := range 1000 {
		require.GreaterOrEqual(t, Bound(n), FirstBound, "try %d", n)
		require.LessOrEqual(t, Bound(n), LastBound, "try %d", n)
	}
}

// A client that is closed answers nothing more.
func TestTriesEndWithTheClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closing, closeIt := context.WithCancel(t.Context())
		p := Requests(1)
		p.Client = clientv3.NewCtxClient(closing, clientv3.WithZapLogger(zap.NewNop()))
		tries := 0
		unanswered, err := Retry(t.Context(), p, func(context.Context) error {
			if tries++; tries == 3 {
				closeIt()
			}
			if tries > 5 {
				return nil
			}
			return rpctypes.ErrNoLeader
		})
		require.True(t, unanswered)
		require.ErrorIs(t, err, lockerr.ErrClientClosed)
		require.Equal(t, 3, tries)
	})
}

// The first tries of a writer share timers, and do not send their deadline to the server.
func TestAWritersTriesAreBoundedAsOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWriter(WriterConfig{})
		for n := range 6 {
			began := time.Now()
			ctx, cancel := w.Requests(1).Bound(t.Context(), n)
			_, told := ctx.Deadline()
			require.Equal(t, n > 1, told, "try %d", n)
			<-ctx.Done()
			cancel()
			require.Equal(t, Bound(n), time.Since(began), "try %d", n)
		}
	})
}

func TestAPersistentPolicyGoesOnAfterARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refusing := Requests(1)
		refusing.Persist = true
		tries := 0
		unanswered, err := Retry(t.Context(), refusing, func(context.Context) error {
			if tries++; tries < 4 {
				return rpctypes.ErrPermissionDenied
			}
			return nil
		})
		require.NoError(t, err)
		require.False(t, unanswered, "each try was answered")
		require.Equal(t, 4, tries)
	})
}

func TestAPolicyWithFailedTriesPausesBeforeTheFirstOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for failed := range 8 {
			later := Requests(1)
			later.Failed = failed
			began := time.Now()
			_, err := Retry(t.Context(), later, func(context.Context) error { return nil })
			require.NoError(t, err)
			want := time.Duration(0)
			if failed > 0 {
				want = Pause(failed-1, 1)
			}
			require.Equal(t, want, time.Since(began))
		}
		over, cancel := context.WithCancel(t.Context())
		cancel()
		unanswered, err := Retry(over, Policy{Failed: 1, First: time.Second, Longest: time.Second}, nil)
		require.ErrorIs(t, err, context.Canceled)
		require.False(t, unanswered, "nothing was sent")
	})
}
