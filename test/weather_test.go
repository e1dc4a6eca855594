package test

import (
	"time"

	"github.com/stretchr/testify/require"
)

// stop ends a member as a crash would: its data stay, its connections end.
func (f *fixture) stop(i int) {
	f.t.Helper()
	f.cluster.Members[i].Stop(f.t)
}

// restart starts a stopped member and waits until it serves, with a raft leader.
func (f *fixture) restart(i int) {
	f.t.Helper()
	require.NoError(f.t, f.cluster.Members[i].Restart(f.t))
	f.cluster.Members[i].WaitOK(f.t)
}

func (f *fixture) stopAll() {
	f.t.Helper()
	for i := range f.cluster.Members {
		f.stop(i)
	}
}

// restartAll starts all members at once: none serves before a second one is up.
func (f *fixture) restartAll() {
	f.t.Helper()
	for _, m := range f.cluster.Members {
		require.NoError(f.t, m.Restart(f.t))
	}
	for _, m := range f.cluster.Members {
		m.WaitOK(f.t)
	}
	f.cluster.WaitLeader(f.t)
}

// renewed waits until a renewal was answered that was sent after this call: the
// deadline is then beyond what any earlier one could give.
func (f *fixture) renewed(deadline func() time.Time) {
	f.t.Helper()
	before := deadline()
	require.Eventually(f.t, func() bool { return deadline().After(before.Add(100 * time.Millisecond)) },
		10*time.Second, 5*time.Millisecond, "no renewal was answered")
}
