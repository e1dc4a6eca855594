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
