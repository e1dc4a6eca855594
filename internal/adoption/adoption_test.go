package adoption

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/names"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/sweeper"
	"github.com/etcdlock/etcdlock/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ttl = time.Minute

// rig is a simulated etcd in virtual time, and a lease that a former process had.
type rig struct {
	*testing.T
	*Former
	*simetcd.Server
	names   *names.Table
	lease   *lease.Lease
	kv      clientv3.KV
	dropped int
}

// simulate runs a test with the keys that the former process has left, in this order.
func simulate(t *testing.T, givesUp bool, keys []string, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := simetcd.New(simetcd.Config{Seed: 1})
		defer srv.Close()
		client := srv.Client("a")
		life, end := context.WithCancelCause(context.Background())
		ls, err := lease.Grant(life, life, lease.Config{Client: client.Lease, TTL: ttl, Clock: func() time.Duration { return 0 }}, new(clientv3.LeaseID))
		require.NoError(t, err)
		r := &rig{T: t, Server: srv, names: names.New(), lease: ls, kv: client.KV}
		writer := etcdkv.NewWriter(etcdkv.WriterConfig{
			Life: life, KV: client.KV, Slots: etcdkv.Slots, Spawn: func(f func()) bool { go f(); return true },
		})
		r.Former = New(Config{
			Life: life, Names: r.names, KV: client.KV, Leases: client.Lease, GivesUp: givesUp, Log: zap.NewNop(),
			Queues:  queue.NewQueues(queue.Config{Life: life, KV: client.KV, Writer: writer, Watcher: client.Watcher, Log: zap.NewNop()}),
			Insist:  func(ctx context.Context, try func(context.Context) error) error { return try(ctx) },
			Revoke:  func(context.Context, string) bool { return false },
			Present: func() clientv3.LeaseID { return ls.ID() },
			Drop: func(name string, slot wire.Slot) {
				r.dropped++
				r.names.Drop(name, slot)
			},
			Posted: func(string, clientv3.LeaseID) bool { return false },
		})
		for _, key := range keys {
			_, err := client.Put(life, key+wire.Hex(ls.ID()), "", clientv3.WithLease(ls.ID()))
			require.NoError(t, err)
		}
		r.Former.lease = ls.ID()
		test(r)
		end(lockerr.ErrSessionClosed)
		r.Wait()
	})
}

func (r *rig) want(all ...string) Entry {
	return Entry{Names: all, Want: queue.Want{Lease: r.lease.ID()}}
}

func (r *rig) standing(name string) int { return len(r.Keys(name + "/")) }

func TestACallTakesOverTheKeyThatFits(t *testing.T) {
	simulate(t, false, []string{"m/", "n/"}, func(r *rig) {
		require.False(r, r.MayStand(r.lease.ID()+1, "m"), "another lease")
		require.True(r, r.MayStand(r.lease.ID(), "m"))
		require.Equal(r, Found{Slots: []wire.Slot{{}}}, r.Fit(r.Context(), r.want("m")))
		require.True(r, r.names.Busy("m", wire.Slot{}))
		require.Zero(r, r.Fit(r.Context(), r.want("m")), "it is in use")
		require.Zero(r, r.Fit(r.Context(), r.want("o")), "there is none")
		keys, err := r.Adopted(r.Context())
		require.NoError(r, err)
		require.Equal(r, []wire.Parsed{{Name: "n", Lease: r.lease.ID()}}, keys)
	})
}

func TestKeysOfSeveralNamesThatWereNotWrittenTogetherAreNoEntry(t *testing.T) {
	simulate(t, false, []string{"m/", "n/"}, func(r *rig) {
		require.Nil(r, r.Fit(r.Context(), r.want("m", "n")).Slots)
		require.False(r, r.names.Busy("m", wire.Slot{}))
	})
}

func TestAKeyThatIsInUseIsNotDeleted(t *testing.T) {
	simulate(t, false, []string{"m/", "n/"}, func(r *rig) {
		keys, err := r.Adopted(r.Context())
		require.NoError(r, err)
		require.Len(r, keys, 2)
		require.NotNil(r, r.Fit(r.Context(), r.want("m")).Slots)
		require.NoError(r, r.DeleteAdopted(r.Context(), keys))
		require.Equal(r, 1, r.standing("m"))
		require.Zero(r, r.standing("n"))
		require.Equal(r, 1, r.dropped)
	})
}

func TestAKeyInTheWayOfACallIsDeleted(t *testing.T) {
	simulate(t, false, []string{"m/"}, func(r *rig) {
		require.True(r, r.Clear(r.Context(), r.lease, r.want("m"), Found{}))
		require.Zero(r, r.standing("m"))
		require.False(r, r.Clear(r.Context(), r.lease, r.want("m"), Found{}))
	})
}

func TestKeysThatNoCallAsksForAreGivenUp(t *testing.T) {
	for _, givesUp := range []bool{true, false} {
		simulate(t, givesUp, []string{"m/"}, func(r *rig) {
			r.Adopt(r.lease)
			time.Sleep(ttl / 2)
			_, err := r.Client("a").KeepAliveOnce(r.Context(), r.lease.ID())
			require.NoError(r, err)
			time.Sleep(ttl/2 + sweeper.LateEffect)
			synctest.Wait()
			require.Equal(r, givesUp, r.standing("m") == 0)
			require.Equal(r, !givesUp, r.MayStand(r.lease.ID(), "m"))
			require.False(r, r.MayStand(r.lease.ID(), "n"), "no request of the former process comes any more")
		})
	}
}

// A call uses the key while the former process's keys are looked for a last time. Then etcd refuses the
// call, and the key stands.
func TestAKeyThatACallGivesBackIsLookedForAgain(t *testing.T) {
	for _, givesUp := range []bool{true, false} {
		simulate(t, givesUp, []string{"m/"}, func(r *rig) {
			require.NotNil(r, r.Fit(r.Context(), r.want("m")).Slots)
			require.NoError(r, r.settle(true))
			r.names.Drop("m", wire.Slot{})
			require.True(r, r.MayStand(r.lease.ID(), "m"))
			require.False(r, r.MayStand(r.lease.ID(), "n"))
			require.True(r, r.Clear(r.Context(), r.lease, r.want("m"), Found{}))
			require.Zero(r, r.Fit(r.Context(), r.want("m")))
			require.False(r, r.MayStand(r.lease.ID(), "m"), "no key is left")
		})
	}
}
