package main

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/etcdproc"
	"github.com/etcdlock/etcdlock/internal/procs"
)

// Its library has no contexts. A caller that leaves at the end of its context must not get
// the lock later and keep it.
func TestWhoLeavesTheLineInZooKeeperHoldsUpNobody(t *testing.T) {
	java, err := exec.LookPath("java")
	jars := zookeeperJars()
	if err != nil || jars == "" {
		t.Skip("ZooKeeper is not installed")
	}
	var kids procs.Children
	defer kids.EndAll()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir := t.TempDir()
	where, err := startZooKeeper(ctx, &kids, java, jars, dir)
	require.NoError(t, err)
	require.ErrorIs(t, ownZooKeeper(ctx, where, dir), etcdproc.ErrForeign)

	c := zookeeperContestant()
	holder, err := join(ctx, c, servers{ZooKeeper: where})
	require.NoError(t, err)
	defer holder.close()
	waiter, err := join(ctx, c, servers{ZooKeeper: where})
	require.NoError(t, err)
	defer waiter.close()

	held, err := holder.mutex("a/b").lock(ctx)
	require.NoError(t, err)
	brief, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	_, err = waiter.mutex("a/b").lock(brief)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	require.NoError(t, held.unlock(ctx))
	again, err := holder.mutex("a/b").lock(ctx)
	require.NoError(t, err)
	require.NoError(t, again.unlock(ctx))
}
