package leaderhttp

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// report E7
func TestALeaderThatMayHaveGivenUpIsMarked(t *testing.T) {
	simulate(t, func(t *testing.T, srv *simetcd.Server) {
		a, b := newService(t, srv, "a"), newService(t, srv, "b")
		stopA, stopB := a.run("host-a", untilToldTo), b.run("host-b", untilToldTo)
		require.False(t, b.status().Leader.Unconfirmed)
		require.Empty(t, b.get("/leader").Header().Get(UnconfirmedHeader))
		srv.Stop()
		time.Sleep(18 * time.Second)
		a.client.Cut() // so that it cannot say that it has given up
		srv.Start()
		require.Eventually(t, func() bool { return b.status().Leader.Unconfirmed }, 10*time.Second, 100*time.Millisecond)
		require.Equal(t, "host-a", b.get("/leader").Header().Get(LeaderHeader))
		require.Equal(t, "true", b.get("/leader").Header().Get(UnconfirmedHeader))
		time.Sleep(12 * time.Second)
		require.True(t, b.status().Leading)
		require.False(t, b.status().Leader.Unconfirmed)
		a.client.Heal()
		require.Error(t, stopA())
		require.Error(t, stopB())
		a.close()
		b.close()
	})
}
