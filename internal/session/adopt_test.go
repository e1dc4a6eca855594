package session

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// inherit opens a session after a former process, which had another TTL and the same lease file. The
// requests to revoke the lease of that process meet with the faults.
func (r *rig) inherit(ctx context.Context, faults func(n int) simetcd.Action) (former clientv3.LeaseID, s *Session, err error) {
	cfg := r.config()
	cfg.LeaseFile = filepath.Join(r.TempDir(), "lease")
	dead := r.open(cfg)
	former = dead.Lease()
	dead.LeaseFile().Close() // as the kernel does
	defer func() { _ = dead.Close(r.Context()) }()

	n := 0
	r.Intercept(func(c simetcd.Call) simetcd.Action {
		if c.Kind != simetcd.LeaseRevoke {
			return simetcd.Action{}
		}
		n++
		return faults(n)
	})
	defer func() { r.Intercept(nil) }()
	cfg.TTL = 2 * ttl
	s, err = Open(ctx, cfg, func(*Session) Manager { return &r.manager })
	return former, s, err
}

func TestALeaseOfAnotherTTLIsRevokedUntilEtcdHasAnswered(t *testing.T) {
	for name, fault := range map[string]simetcd.Action{
		"lost requests": {DropRequest: true},
		"lost answers":  {DropReply: true},
		"no leader":     {Err: rpctypes.ErrGRPCNoLeader},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(r *rig) {
				began := time.Now()
				former, s, err := r.inherit(r.Context(), func(n int) simetcd.Action {
					if n > 2 {
						return simetcd.Action{}
					}
					return fault
				})
				require.NoError(r, err)
				require.Less(r, time.Since(began), 4*time.Second)
				require.NotEqual(r, former, s.Lease())
				require.NotContains(r, r.Leases(), former)
				require.Equal(r, 2*ttl, s.LastLease().TTL())
				require.NoError(r, s.Close(r.Context()))
			})
		})
	}
}

func TestALeaseOfAnotherTTLThatEtcdDoesNotRevokeIsLeftToExpire(t *testing.T) {
	simulate(t, func(r *rig) {
		former, s, err := r.inherit(r.Context(), func(n int) simetcd.Action {
			return simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}
		})
		require.NoError(r, err)
		require.NotEqual(r, former, s.Lease())
		require.NoError(r, s.Close(r.Context()))
	})
}

func TestAStartEndsWhileALeaseOfAnotherTTLIsNotRevoked(t *testing.T) {
	hangs := func(int) simetcd.Action { return simetcd.Action{DropRequest: true} }
	simulate(t, func(r *rig) {
		ctx, cancel := context.WithTimeout(r.Context(), 7*time.Second)
		defer cancel()
		_, _, err := r.inherit(ctx, hangs)
		require.ErrorIs(r, err, context.DeadlineExceeded)
		require.ErrorContains(r, err, "which had another TTL")
		require.ErrorContains(r, err, "has not answered")
	})
	simulate(t, func(r *rig) {
		time.AfterFunc(7*time.Second, func() { _ = r.client.Close() })
		_, _, err := r.inherit(r.Context(), hangs)
		require.ErrorIs(r, err, lockerr.ErrClientClosed)
	})
}
