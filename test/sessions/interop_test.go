package sessions

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/client/v3/concurrency"
	lockpb "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/test/internal/cluster"
)

func TestAMixedFleetExcludesEachOtherAndItsTokensGrow(t *testing.T) {
	f := newFixture(t)
	f.Put("counter", "0")
	const rounds = 8
	var h cluster.History
	var workers []func() error
	for range 2 {
		ours := f.Session(f.Client(), cluster.LongTTL)
		workers = append(workers, func() error {
			for range rounds {
				err := etcdlock.NewMutex(ours, "lock").Do(f.Ctx(), func(ctx context.Context, l *etcdlock.Lock) error {
					defer h.Begin(l.Err, ours, l.Token())()
					return cluster.Raise(ctx, ours.Client(), "counter")
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
		theirs := f.ForeignSession()
		workers = append(workers, func() error {
			for range rounds {
				m := concurrency.NewMutex(theirs, "lock")
				if err := m.Lock(f.Ctx()); err != nil {
					return err
				}
				// What users of etcd's library take for a token: the revision of
				// the acquisition.
				end := h.Begin(f.Ctx().Err, theirs, m.Header().Revision)
				if err := cluster.Raise(f.Ctx(), theirs.Client(), "counter"); err != nil {
					return err
				}
				end()
				if err := m.Unlock(f.Ctx()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	cluster.All(t, workers...)
	h.AssertExclusive(t)
	require.Equal(t, strconv.Itoa(4*rounds), f.Get("counter"))
}

func TestALockGoesFromUsToEtcdsMutexAndBack(t *testing.T) {
	f := newFixture(t)
	ours := etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock")
	theirs := concurrency.NewMutex(f.ForeignSession(), "lock")

	l, err := ours.Lock(f.Ctx())
	require.NoError(t, err)
	require.ErrorIs(t, theirs.TryLock(f.Ctx()), concurrency.ErrLocked)
	locked := make(chan error, 1)
	go func() { locked <- theirs.Lock(f.Ctx()) }()
	f.WaitForKeys("lock", 2)
	cluster.Release(t, l)
	require.NoError(t, cluster.Receive(t, locked, "etcd's Mutex"))
	require.Greater(t, theirs.Header().Revision, l.Token())

	_, err = ours.TryLock(f.Ctx())
	require.ErrorIs(t, err, etcdlock.ErrLocked)
	waiting := cluster.LockInBackground(f.Ctx(), ours)
	f.WaitForKeys("lock", 2)
	cluster.StillWaiting(t, waiting, 100*time.Millisecond)
	require.NoError(t, theirs.Unlock(f.Ctx()))
	again := cluster.Granted(t, waiting).Handle
	require.Greater(t, again.Token(), theirs.Header().Revision)
	cluster.Release(t, again)
}

func TestAnElectionGoesFromUsToEtcdsElectionAndBack(t *testing.T) {
	f := newFixture(t)
	ours := etcdlock.NewElection(f.Session(f.Client(), cluster.LongTTL), "election")
	theirs := concurrency.NewElection(f.ForeignSession(), "election")

	term, err := ours.Campaign(f.Ctx(), "ours")
	require.NoError(t, err)
	resp, err := theirs.Leader(f.Ctx())
	require.NoError(t, err)
	require.Equal(t, "ours", string(resp.Kvs[0].Value), "the value is the proposal, byte for byte")

	elected := make(chan error, 1)
	go func() { elected <- theirs.Campaign(f.Ctx(), "theirs") }()
	f.WaitForKeys("election", 2)
	require.NoError(t, term.Resign(f.Ctx()))
	require.NoError(t, cluster.Receive(t, elected, "etcd's Election"))
	leader, err := ours.Leader(f.Ctx())
	require.NoError(t, err)
	require.Equal(t, "theirs", leader.Value)
	require.Equal(t, theirs.Key(), leader.Key)

	waiting := cluster.CampaignInBackground(f.Ctx(), ours, "ours again")
	f.WaitForKeys("election", 2)
	cluster.StillWaiting(t, waiting, 100*time.Millisecond)
	require.NoError(t, theirs.Resign(f.Ctx()))
	term = cluster.Granted(t, waiting).Handle
	require.Greater(t, term.Token(), leader.CreateRevision)
	require.NoError(t, term.Resign(f.Ctx()))
}

// The server's lock service is what jetcd and gRPC users call.
func TestALockOfEtcdsLockServiceExcludesOurs(t *testing.T) {
	f := newFixture(t)
	lease, err := f.Admin.Grant(f.Ctx(), 10)
	require.NoError(t, err)
	service := lockpb.NewLockClient(f.Admin.ActiveConnection())
	held, err := service.Lock(f.Ctx(), &lockpb.LockRequest{Name: []byte("lock"), Lease: int64(lease.ID)})
	require.NoError(t, err)
	require.Equal(t, "lock/"+cluster.Hex(lease.ID), string(held.Key))

	m := etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock")
	waiting := cluster.LockInBackground(f.Ctx(), m)
	f.WaitForKeys("lock", 2)
	cluster.StillWaiting(t, waiting, 100*time.Millisecond)
	_, err = service.Unlock(f.Ctx(), &lockpb.UnlockRequest{Key: held.Key})
	require.NoError(t, err)
	cluster.Release(t, cluster.Granted(t, waiting).Handle)
	f.Revoke(lease.ID)
}

// A value that is not ours is listed as it is.
func TestAForeignHolderIsListedWithoutMetadata(t *testing.T) {
	f := newFixture(t)
	s := f.ForeignSession()
	m := concurrency.NewMutex(s, "lock")
	require.NoError(t, m.Lock(f.Ctx()))
	entries, err := etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock").Queue(f.Ctx())
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Equal(t, m.Key(), entries[0].Key)
	require.Equal(t, s.Lease(), entries[0].Lease)
	require.Zero(t, entries[0].PID)
	require.True(t, entries[0].Since.IsZero())
	require.NoError(t, m.Unlock(f.Ctx()))
}
