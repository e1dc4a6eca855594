package leaderhttp

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// report E8
func TestEverybodyHasOneNumberForATerm(t *testing.T) {
	simulate(t, func(t *testing.T, srv *simetcd.Server) {
		a, b, o := newService(t, srv, "a"), newService(t, srv, "b"), newService(t, srv, "o")
		stopA := a.run("host-a", untilToldTo)
		type numbers struct{ number, token int64 }
		led := make(chan numbers, 1)
		stopB := b.run("host-b", func(ctx context.Context, term *etcdlock.Term) error {
			led <- numbers{term.CreateRevision(), term.Token()}
			return untilToldTo(ctx, term)
		})
		require.ErrorIs(t, stopA(), context.Canceled)
		time.Sleep(time.Second)
		n := <-led
		number, token := n.number, n.token
		require.Greater(t, token, number, "the leader had to wait")

		own := b.status()
		require.Equal(t, number, own.Term.CreateRevision)
		require.Equal(t, token, own.Term.Token)
		require.Equal(t, number, own.Leader.CreateRevision)
		require.Equal(t, number, own.Candidates[0].CreateRevision)
		e := etcdlock.NewElection(o.session, "e")
		for leader, err := range e.Observe(t.Context()) {
			require.NoError(t, err)
			require.Equal(t, number, leader.CreateRevision)
			require.LessOrEqual(t, leader.MinToken, token)
			break
		}
		leader, err := e.Leader(t.Context())
		require.NoError(t, err)
		require.Equal(t, number, leader.CreateRevision)
		require.ErrorIs(t, stopB(), context.Canceled)
		for _, s := range []*service{a, b, o} {
			s.close()
		}
	})
}
