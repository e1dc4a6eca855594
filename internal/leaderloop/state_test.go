package leaderloop

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	logged "go.uber.org/zap/zaptest/observer"

	"github.com/etcdlock/etcdlock/internal/states"
)

var allRoles = []Role{0, RoleObserver, RoleCandidate, RoleLeading, RoleStopping}

// Each edge that is not in the table is refused: the role stays, and the loop ends with an error that names the edge.
func TestOnlyTheEdgesOfTheTableAreLegal(t *testing.T) {
	panics := states.Refused
	states.Refused = func(error) {}
	defer func() { states.Refused = panics }()
	legal := 0
	for _, from := range allRoles {
		for _, to := range allRoles {
			core, logs := logged.New(zapcore.InfoLevel)
			ctx, fail := context.WithCancelCause(t.Context())
			q := startCallbackQueue()
			var told []Role
			s := newState(Config{Name: "e", Log: zap.New(core), OnRole: func(r Role) { told = append(told, r) }}, q, fail)
			s.status.Role = from
			s.enter(to, nil)
			q.close()
			if slices.Contains(roles.Edges[from], to) {
				legal++
				require.Equal(t, to, s.status.Role)
				require.Equal(t, []Role{to}, told)
				require.NoError(t, ctx.Err())
				require.Zero(t, logs.Len())
			} else {
				require.Equal(t, from, s.status.Role)
				require.Empty(t, told)
				require.ErrorContains(t, context.Cause(ctx), "from "+from.String()+" to "+to.String())
				require.Equal(t, 1, logs.Len())
			}
		}
	}
	require.Equal(t, 7, legal)
	states.Refused = panics
	require.Panics(t, func() { newState(Config{Log: zap.NewNop()}, nil, func(error) {}).enter(RoleLeading, nil) })
}

// In production the work is stopped, the term given back, and Run returns the error.
func TestAnIllegalEdgeEndsRun(t *testing.T) {
	panics := states.Refused
	states.Refused = func(error) {}
	defer func() { states.Refused = panics }()
	play(t, func(*stage) {}, func(s *stage) {
		ctx, fail := context.WithCancelCause(s.ctx)
		other := &loop{cfg: s.cfg, candidate: s}
		other.state = newState(Config{Log: s.cfg.Log}, nil, fail)
		other.cfg.Work = func(ctx context.Context, _ Term) error {
			other.state.enter(RoleCandidate, nil)
			<-ctx.Done()
			return nil
		}
		other.state.enter(RoleObserver, nil)
		require.ErrorContains(s, other.campaigns(ctx), "leading to candidate")
		require.Equal(s, RoleObserver, other.state.status.Role)
	})
}

func TestTheMonitorIsToldEachChangeInOrder(t *testing.T) {
	var seen []Status
	play(t, func(s *stage) {
		s.cfg.Monitor = func(st Status) { seen = append(seen, st) }
		s.first(s.stopsAfter(time.Second))
	}, func(s *stage) {
		s.at(time.Second)
		term := <-s.terms
		term.lose(evicted)
		s.at(3 * time.Second)
		s.cancel(errWork)
		<-s.over
		var roles []Role
		for _, st := range seen {
			if n := len(roles); n == 0 || roles[n-1] != st.Role {
				roles = append(roles, st.Role)
			}
			require.Equal(s, st.Role == RoleLeading || st.Role == RoleStopping, st.Term != nil)
			if st.Term == term {
				require.Equal(s, s.began, st.TermSince)
			}
			if st.Role == RoleStopping && st.Term == term {
				require.Equal(s, s.began.Add(time.Second), st.Since)
			}
			require.True(s, st.Running == (st.Err == nil))
		}
		require.Equal(s, []Role{
			RoleObserver, RoleCandidate, RoleLeading, RoleStopping, RoleObserver, RoleCandidate, RoleLeading, RoleStopping, RoleObserver,
		}, roles)
		require.Equal(s, errWork, seen[len(seen)-1].Err)
	})
}

// report E4
func TestACallbackThatHangsDoesNotPileUpObservations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []int
		hang := make(chan struct{})
		q := startCallbackQueue()
		for i := range 10 * mostObservations {
			q.putLimited(func() {
				<-hang
				told = append(told, i)
			})
			synctest.Wait()
		}
		q.mu.Lock()
		require.Len(t, q.limited, mostObservations)
		require.Len(t, q.queue, mostObservations)
		q.mu.Unlock()
		q.put(func() { told = append(told, -1) })
		close(hang)
		q.close()
		require.Len(t, told, mostObservations+2)
		require.Equal(t, []int{10*mostObservations - 1, -1}, told[mostObservations:])
	})
}
