package test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/client/v3/concurrency"
	lockpb "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"

	"github.com/etcdlock/etcdlock"
)

// foreignSession is a session of etcd's own library.
func (f *fixture) foreignSession() *concurrency.Session {
	f.t.Helper()
	s, err := concurrency.NewSession(f.client(), concurrency.WithTTL(3))
	require.NoError(f.t, err)
	f.t.Cleanup(func() { s.Close() })
	return s
}

func TestAMixedFleetExcludesEachOtherAndItsTokensGrow(t *testing.T) {
	f := newFixture(t)
	f.put("counter", "0")
	const rounds = 8
	var h history
	var workers []func() error
	for range 2 {
		ours := f.session(f.client(), 3*time.Second)
		workers = append(workers, func() error {
			for range rounds {
				err := etcdlock.NewMutex(ours, "lock").Do(f.ctx(), func(ctx context.Context, l *etcdlock.Lock) error {
					defer h.begin(l.Context(), ours, l.Token())()
					return raise(ctx, ours.Client(), "counter")
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
		theirs := f.foreignSession()
		workers = append(workers, func() error {
			for range rounds {
				m := concurrency.NewMutex(theirs, "lock")
				if err := m.Lock(f.ctx()); err != nil {
					return err
				}
				// What users of etcd's library take for a token: the revision of
				// the acquisition.
				end := h.begin(f.ctx(), theirs, m.Header().Revision)
				if err := raise(f.ctx(), theirs.Client(), "counter"); err != nil {
					return err
				}
				end()
				if err := m.Unlock(f.ctx()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	all(t, workers...)
	h.assertExclusive(t)
	require.Equal(t, strconv.Itoa(4*rounds), f.get("counter"))
}

func TestALockGoesFromUsToEtcdsMutexAndBack(t *testing.T) {
	f := newFixture(t)
	ours := etcdlock.NewMutex(f.session(f.client(), 3*time.Second), "lock")
	theirs := concurrency.NewMutex(f.foreignSession(), "lock")

	l, err := ours.Lock(f.ctx())
	require.NoError(t, err)
	require.ErrorIs(t, theirs.TryLock(f.ctx()), concurrency.ErrLocked)
	locked := make(chan error, 1)
	go func() { locked <- theirs.Lock(f.ctx()) }()
	f.waitForKeys("lock", 2)
	release(t, l)
	require.NoError(t, receive(t, locked, "etcd's Mutex"))
	require.Greater(t, theirs.Header().Revision, l.Token())

	_, err = ours.TryLock(f.ctx())
	require.ErrorIs(t, err, etcdlock.ErrLocked)
	waiting := lockInBackground(f.ctx(), ours)
	f.waitForKeys("lock", 2)
	stillWaiting(t, waiting, 100*time.Millisecond)
	require.NoError(t, theirs.Unlock(f.ctx()))
	again := granted(t, waiting).handle
	require.Greater(t, again.Token(), theirs.Header().Revision)
	release(t, again)
}

func TestAnElectionGoesFromUsToEtcdsElectionAndBack(t *testing.T) {
	f := newFixture(t)
	ours := etcdlock.NewElection(f.session(f.client(), 3*time.Second), "election")
	theirs := concurrency.NewElection(f.foreignSession(), "election")

	term, err := ours.Campaign(f.ctx(), "ours")
	require.NoError(t, err)
	resp, err := theirs.Leader(f.ctx())
	require.NoError(t, err)
	require.Equal(t, "ours", string(resp.Kvs[0].Value), "the value is the proposal, byte for byte")

	elected := make(chan error, 1)
	go func() { elected <- theirs.Campaign(f.ctx(), "theirs") }()
	f.waitForKeys("election", 2)
	require.NoError(t, term.Resign(f.ctx()))
	require.NoError(t, receive(t, elected, "etcd's Election"))
	leader, err := ours.Leader(f.ctx())
	require.NoError(t, err)
	require.Equal(t, "theirs", leader.Value)
	require.Equal(t, theirs.Key(), leader.Key)

	waiting := campaignInBackground(f.ctx(), ours, "ours again")
	f.waitForKeys("election", 2)
	stillWaiting(t, waiting, 100*time.Millisecond)
	require.NoError(t, theirs.Resign(f.ctx()))
	term = granted(t, waiting).handle
	require.Greater(t, term.Token(), leader.CreateRevision)
	require.NoError(t, term.Resign(f.ctx()))
}

// The server's lock service is what jetcd and gRPC users call.
func TestALockOfEtcdsLockServiceExcludesOurs(t *testing.T) {
	f := newFixture(t)
	lease, err := f.admin.Grant(f.ctx(), 10)
	require.NoError(t, err)
	service := lockpb.NewLockClient(f.admin.ActiveConnection())
	held, err := service.Lock(f.ctx(), &lockpb.LockRequest{Name: []byte("lock"), Lease: int64(lease.ID)})
	require.NoError(t, err)
	require.Equal(t, "lock/"+etcdHex(lease.ID), string(held.Key))

	m := etcdlock.NewMutex(f.session(f.client(), 3*time.Second), "lock")
	waiting := lockInBackground(f.ctx(), m)
	f.waitForKeys("lock", 2)
	stillWaiting(t, waiting, 100*time.Millisecond)
	_, err = service.Unlock(f.ctx(), &lockpb.UnlockRequest{Key: held.Key})
	require.NoError(t, err)
	release(t, granted(t, waiting).handle)
	f.revoke(lease.ID)
}

// A value that is not ours is listed as it is.
func TestAForeignHolderIsListedWithoutMetadata(t *testing.T) {
	f := newFixture(t)
	s := f.foreignSession()
	m := concurrency.NewMutex(s, "lock")
	require.NoError(t, m.Lock(f.ctx()))
	entries, err := etcdlock.NewMutex(f.session(f.client(), 3*time.Second), "lock").Queue(f.ctx())
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Equal(t, m.Key(), entries[0].Key)
	require.Equal(t, s.Lease(), entries[0].Lease)
	require.Zero(t, entries[0].PID)
	require.True(t, entries[0].Since.IsZero())
	require.NoError(t, m.Unlock(f.ctx()))
}
