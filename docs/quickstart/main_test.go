package main

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func TestTheQuickstartLocksAndUnlocks(t *testing.T) {
	srv := simetcd.New(simetcd.Config{})
	client := srv.Client("quickstart").Client
	t.Cleanup(func() { _ = client.Close() })

	require.NoError(t, run(t.Context(), client))
	require.NoError(t, run(t.Context(), client), "the first run has left the lock behind")
}

// A signal ends the work, and the next process acquires the lock at once.
func TestTheQuickstartEndsItsWorkWithItsContext(t *testing.T) {
	shipping = time.Hour
	t.Cleanup(func() { shipping = time.Second })
	srv := simetcd.New(simetcd.Config{})
	client := srv.Client("quickstart").Client
	t.Cleanup(func() { _ = client.Close() })
	other, err := etcdlock.NewSession(t.Context(), client)
	require.NoError(t, err)
	mutex := etcdlock.NewMutex(other, "orders/42")

	ctx, signal := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, client) }()
	require.Eventually(t, func() bool {
		queue, err := mutex.Queue(t.Context())
		return err == nil && len(queue) == 1
	}, 10*time.Second, 10*time.Millisecond, "the work does not begin")
	signal()
	select {
	case err := <-ended:
		require.ErrorIs(t, err, context.Canceled)
	case <-time.After(10 * time.Second):
		require.Fail(t, "the work does not end")
	}
	lock, err := mutex.TryLock(t.Context())
	require.NoError(t, err)
	require.NoError(t, lock.Unlock(t.Context()))
	require.NoError(t, other.Close(t.Context()))
}

func TestTheQuickstartNamesTheHolder(t *testing.T) {
	srv := simetcd.New(simetcd.Config{})
	client := srv.Client("quickstart").Client
	t.Cleanup(func() { _ = client.Close() })
	other, err := etcdlock.NewSession(t.Context(), client, etcdlock.WithOwner("the holder"))
	require.NoError(t, err)
	lock, err := etcdlock.NewMutex(other, "orders/42").Lock(t.Context())
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err = run(ctx, client)
	require.ErrorIs(t, err, etcdlock.ErrLocked)
	require.ErrorContains(t, err, `order 42 is busy`)
	require.ErrorContains(t, err, `the holder`)

	require.NoError(t, lock.Unlock(t.Context()))
	require.NoError(t, other.Close(t.Context()))
}
