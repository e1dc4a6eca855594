package locks

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/test/internal/cluster"
)

func TestTheRoundTripsAreThoseOfTheDesign(t *testing.T) {
	f := newFixture(t)
	var c cluster.Counter
	s := f.Session(f.Client(c.Options()...), 60*time.Second)
	m, e := etcdlock.NewMutex(s, "lock"), etcdlock.NewElection(s, "election")
	ctx := f.Ctx()

	for round := range 3 { // the first one is no different
		var l *etcdlock.Lock
		var term *etcdlock.Term
		var err error
		require.Equal(t, cluster.OneTxn, c.During(func() { l, err = m.Lock(ctx) }), "lock, round %d", round)
		require.NoError(t, err)
		require.Equal(t, cluster.OneTxn, c.During(func() { err = l.Unlock(ctx) }), "unlock, round %d", round)
		require.NoError(t, err)
		require.Equal(t, cluster.OneTxn, c.During(func() { l, err = m.TryLock(ctx) }), "TryLock on a free lock, round %d", round)
		require.NoError(t, err)
		require.NoError(t, l.Unlock(ctx))
		require.Equal(t, cluster.OneTxn, c.During(func() { term, err = e.Campaign(ctx, "x") }), "campaign, round %d", round)
		require.NoError(t, err)
		require.Equal(t, cluster.OneTxn, c.During(func() { err = term.Proclaim(ctx, "y") }), "proclaim, round %d", round)
		require.NoError(t, err)
		require.Equal(t, cluster.OneTxn, c.During(func() { err = term.Resign(ctx) }), "resign, round %d", round)
		require.NoError(t, err)
	}
}

// trap A13
func TestATryLockOnATakenLockCostsOneRequestAndNoWrite(t *testing.T) {
	f := newFixture(t)
	l, err := etcdlock.NewMutex(f.Session(f.Client(), 10*time.Second), "lock").Lock(f.Ctx())
	require.NoError(t, err)
	var c cluster.Counter
	m := etcdlock.NewMutex(f.Session(f.Client(c.Options()...), 10*time.Second), "lock")
	before := f.Revision()
	for range 3 {
		require.Equal(t, cluster.OneTxn, c.During(func() { _, err = m.TryLock(f.Ctx()) }))
		require.ErrorIs(t, err, etcdlock.ErrLocked)
	}
	require.Equal(t, before, f.Revision(), "something was written")
	cluster.Release(t, l)
}

func TestWaitingCostsTwoRequestsAndTheHandoverAtMostOneRead(t *testing.T) {
	f := newFixture(t)
	holder, err := etcdlock.NewMutex(f.Session(f.Client(), 10*time.Second), "lock").Lock(f.Ctx())
	require.NoError(t, err)
	var c cluster.Counter
	m := etcdlock.NewMutex(f.Session(f.Client(c.Options()...), 10*time.Second), "lock")
	var waiting <-chan cluster.Outcome[*etcdlock.Lock]
	sent := c.During(func() {
		waiting = cluster.LockInBackground(f.Ctx(), m)
		f.WaitForKeys("lock", 2)
		cluster.StillWaiting(t, waiting, 100*time.Millisecond)
	})
	t.Logf("figure: to be in line: %v", sent)
	require.LessOrEqual(t, len(sent), 2, "to be in line: %v", sent)
	sent = c.During(func() { cluster.StillWaiting(t, waiting, 500*time.Millisecond) })
	t.Logf("figure: to stay in line for longer: %v", sent)
	require.LessOrEqual(t, len(sent), 1, "to watch the own key, too: %v", sent)
	var next *etcdlock.Lock
	sent = c.During(func() {
		cluster.Release(t, holder)
		next = cluster.Granted(t, waiting).Handle
	})
	t.Logf("figure: handover: %v", sent)
	require.LessOrEqual(t, len(sent), 1, "handover: %v", sent)
	cluster.Release(t, next)
}

func TestSiblingsOfTheHolderWaitWithoutARequest(t *testing.T) {
	f := newFixture(t)
	var c cluster.Counter
	s := f.Session(f.Client(c.Options()...), 10*time.Second)
	l, err := etcdlock.NewMutex(s, "lock").Lock(f.Ctx())
	require.NoError(t, err)
	var waiting [3]<-chan cluster.Outcome[*etcdlock.Lock]
	sent := c.During(func() {
		_, err := etcdlock.NewMutex(s, "lock").TryLock(f.Ctx())
		require.ErrorIs(t, err, etcdlock.ErrLocked)
		for i := range waiting {
			waiting[i] = cluster.LockInBackground(f.Ctx(), etcdlock.NewMutex(s, "lock"))
			cluster.StillWaiting(t, waiting[i], 20*time.Millisecond)
		}
	})
	require.Empty(t, sent, "siblings of the holder wait without a request")
	sent = c.During(func() {
		cluster.Release(t, l)
		for _, w := range waiting {
			l := cluster.Granted(t, w).Handle
			require.NoError(t, l.Err())
			cluster.Release(t, l)
		}
	})
	t.Logf("figure: 3 handovers inside one process and the last unlock: %d requests", len(sent))
	f.WaitForKeys("lock", 0)
}
