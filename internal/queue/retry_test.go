package queue

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestARequestIsTriedUntilItIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		unanswered, err := retry(t.Context(), 1, func(context.Context) error {
			if tries++; tries < 4 {
				return rpctypes.ErrNoLeader
			}
			return nil
		})
		require.NoError(t, err)
		require.True(t, unanswered)
		require.Equal(t, 4, tries)

		unanswered, err = retry(t.Context(), 1, func(context.Context) error { return rpctypes.ErrPermissionDenied })
		require.ErrorIs(t, err, rpctypes.ErrPermissionDenied)
		require.False(t, unanswered)
		unanswered, err = retry(t.Context(), 1, func(context.Context) error { return nil })
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
		unanswered, err := retry(ctx, 1, func(ctx context.Context) error {
			hangs++
			<-ctx.Done()
			return ctx.Err()
		})
		require.True(t, unanswered)
		require.Equal(t, why, err, "the cause")
		require.InDelta(t, 3+56/3.7, hangs, 3, "the first three are shorter")

		ctx, cancel = context.WithTimeoutCause(t.Context(), time.Minute, why)
		defer cancel()
		_, err = retry(ctx, 1, func(context.Context) error { fails++; return rpctypes.ErrNoLeader })
		require.Equal(t, why, err)
		require.InDelta(t, 85, fails, 40)
	})
}

// A member that hangs answers nothing: the first tries give it a second each, and the next
// one may reach another member.
func TestATryThatHangsIsRepeatedSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, tries := time.Now(), 0
		unanswered, err := retry(context.Background(), 1, func(ctx context.Context) error {
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

// etcd may be away for long, as to somebody who only looks on, and no lease ends his tries: the
// first one after that has its time as every other one.
func TestATryHasItsTimeHoweverManyWentBefore(t *testing.T) {
	for n := range 1000 {
		require.GreaterOrEqual(t, bound(n), FirstBound, "try %d", n)
		require.LessOrEqual(t, bound(n), requestTimeout, "try %d", n)
	}
}
