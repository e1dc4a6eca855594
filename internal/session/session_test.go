package session

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/states"
	"github.com/etcdlock/etcdlock/internal/testhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// manager is a lock manager without locks. It notes what it is told.
type manager struct{ told []string }

func (m *manager) SetLease(*lease.Lease, int)      { m.told = append(m.told, "lease") }
func (m *manager) Adopt(*lease.Lease)              { m.told = append(m.told, "adopt") }
func (m *manager) Suspend(_ int, suspended bool)   { m.tellIf(suspended, "suspended") }
func (m *manager) LeaseLost(int) (int, []string)   { m.told = append(m.told, "lost"); return 0, nil }
func (m *manager) Drain(context.Context) error     { m.told = append(m.told, "drain"); return nil }
func (m *manager) Close()                          { m.told = append(m.told, "close") }
func (m *manager) Forewarn(context.Context)        { m.told = append(m.told, "forewarn") }
func (m *manager) Wait()                           { m.told = append(m.told, "wait") }
func (m *manager) AnyName() (name string, ok bool) { return "", false }

func (m *manager) tellIf(is bool, what string) {
	if is && m.told[len(m.told)-1] != what {
		m.told = append(m.told, what)
	}
}

// rig is a simulated etcd in virtual time, and one client of it.
type rig struct {
	*testing.T
	*simetcd.Server
	client  *simetcd.Client
	manager manager
}

// ttl is the TTL of the sessions in a rig.
const ttl = 10 * time.Second

func simulate(t *testing.T, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := simetcd.New(simetcd.Config{Seed: 1})
		defer srv.Close()
		test(&rig{T: t, Server: srv, client: srv.Client("a")})
	})
}

// config is the config of a session without options.
func (r *rig) config() Config {
	return Config{Client: r.client.Client, Log: zap.NewNop(), TTL: ttl, Hooks: testhook.Of(r.client.Client)}
}

func (r *rig) open(cfg Config) *Session {
	r.Helper()
	s, err := Open(r.Context(), cfg, func(*Session) Manager { return &r.manager })
	require.NoError(r, err)
	return s
}

func (r *rig) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// outage cuts the client off for some time.
func (r *rig) outage(d time.Duration) {
	r.client.Cut()
	r.pass(d)
	r.client.Heal()
	r.pass(ttl)
}

func TestTheManagerIsToldWhatBecomesOfTheLease(t *testing.T) {
	simulate(t, func(r *rig) {
		s := r.open(r.config())
		r.outage(ttl / 2)
		r.outage(2 * ttl)
		id, err := s.Orphan(r.Context())
		require.NoError(r, err)
		require.Equal(r, []string{"lease", "suspended", "lost", "lease", "drain", "close", "wait"}, r.manager.told)

		r.manager = manager{}
		cfg := r.config()
		cfg.Lease = id
		s = r.open(cfg)
		require.Equal(r, id, s.Lease())
		require.NoError(r, s.Close(r.Context()))
		require.Equal(r, []string{"lease", "adopt", "close", "forewarn", "wait"}, r.manager.told)
		require.Empty(r, r.Leases())
	})
}

func TestAnIllegalChangeOfStateEndsTheSession(t *testing.T) {
	simulate(t, func(r *rig) {
		s := r.open(r.config())
		id := s.Lease()
		s.mu.Lock()
		s.state.state = StateLost // as a bug would
		for range 2 {
			require.False(r, s.enter(StateSuspended, nil))
		}
		s.mu.Unlock()
		require.ErrorIs(r, s.Err(), lockerr.ErrSessionClosed)
		r.pass(time.Millisecond)
		require.Equal(r, StateClosed, s.State())
		var edge *states.EdgeError
		for _, err := range []error{s.Err(), s.Close(r.Context())} {
			require.ErrorAs(r, err, &edge)
			require.Equal(r, states.EdgeError{Of: "session", From: "lost", To: "suspended"}, *edge)
		}
		require.Contains(r, r.Leases(), id, "the lease is left to expire")
	})
}

// report E4: a state is not kept for the sake of those that listened to an earlier one.
func TestTheStatesOfASessionAreNotKept(t *testing.T) {
	simulate(t, func(r *rig) {
		s := r.open(r.config())
		ctx, cancel := context.WithCancel(r.Context())
		seen := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range s.States(ctx) {
				seen++
			}
		}()
		s.mu.Lock()
		first := weak.Make(s.state)
		s.mu.Unlock()
		for range 3 {
			r.outage(ttl / 2)
		}
		runtime.GC()
		require.Nil(r, first.Value())
		cancel()
		<-done
		require.Greater(r, seen, 4)
		require.NoError(r, s.Close(r.Context()))
	})
}
