package cluster

import (
	"time"

	"github.com/stretchr/testify/require"
)

// Stop ends a member as a crash would: its data stay, its connections end.
func (f *Fixture) Stop(i int) {
	f.t.Helper()
	f.Cluster.Members[i].Stop(f.t)
}

// Restart starts a stopped member and waits until it serves, with a raft leader.
func (f *Fixture) Restart(i int) {
	f.t.Helper()
	require.NoError(f.t, f.Cluster.Members[i].Restart(f.t))
	f.Cluster.Members[i].WaitOK(f.t)
}

func (f *Fixture) StopAll() {
	f.t.Helper()
	for i := range f.Cluster.Members {
		f.Stop(i)
	}
}

// RestartAll starts all members at once: none serves before a second one is up.
func (f *Fixture) RestartAll() {
	f.t.Helper()
	for _, m := range f.Cluster.Members {
		require.NoError(f.t, m.Restart(f.t))
	}
	for _, m := range f.Cluster.Members {
		m.WaitOK(f.t)
	}
	f.Cluster.WaitLeader(f.t)
}

// Renewed waits until a renewal was answered that was sent after this call: the
// deadline is then beyond what any earlier one could give.
func (f *Fixture) Renewed(deadline func() time.Time) {
	f.t.Helper()
	before := deadline()
	require.Eventually(f.t, func() bool { return deadline().After(before.Add(100 * time.Millisecond)) },
		Long, 5*time.Millisecond, "no renewal was answered")
}
