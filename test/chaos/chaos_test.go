package main

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"go.uber.org/goleak"

	"github.com/etcdlock/etcdlock/internal/etcdproc"
	"github.com/etcdlock/etcdlock/internal/procs"
)

// roleEtcd has this test binary be an etcd, so that the test builds no other.
const roleEtcd = "etcd"

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case roleClient:
		os.Exit(clientMain())
	case roleEtcd:
		etcdmain.Main(os.Args)
	default:
		goleak.VerifyTestMain(m)
	}
}

// A short part of the chaos program, which has more nemeses, more rounds and a control.
func TestPromisesHoldUnderRealFaultsOnRealProcesses(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	p := plan{
		rounds: 1, ttl: 3 * time.Second, kids: &procs.Children{}, say: t.Logf, dir: t.TempDir(),
		etcd: etcdproc.Programs{Version: etcdproc.Version, Etcd: self}, env: []string{roleEnv + "=" + roleEtcd},
	}
	defer p.kids.EndAll()
	p.nemeses, err = find([]string{"late-renewal", "kill-leader"})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	for _, n := range p.nemeses {
		o, err := p.run(ctx, n)
		require.NoError(t, err)
		t.Log(o.line())
		require.Empty(t, failures([]*outcome{o}))
		for _, k := range kinds {
			f := o.of(ours.name, k.name)
			require.Greater(t, f.Operations, slots, "%s: nothing was done", n.name)
			require.True(t, f.Exclusive, "%s: nobody contended", n.name)
		}
	}
}
