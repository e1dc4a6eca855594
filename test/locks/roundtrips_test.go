package locks

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/test/internal/cluster"
)

func TestTheRoundTripsAreThoseOfTheDesign(t *testing.T) {
	f := newFixture(t)
	var c cluster.Counter
	s := f.Session(f.Client(c.Options()...), cluster.LongTTL)
	m, e := etcdlock.NewMutex(s, "lock"), etcdlock.NewElection(s, "election")
	ctx := f.Ctx()

	for round := range 3 { // the first one is no different
		var l *etcdlock.Lock
		var term *etcdlock.Term
		var err error
		c.Costs(t, cluster.OneTxn, func() { l, err = m.Lock(ctx) }, "lock, round %d", round)
		require.NoError(t, err)
		c.Costs(t, cluster.OneTxn, func() { err = l.Unlock(ctx) }, "unlock, round %d", round)
		require.NoError(t, err)
		c.Costs(t, cluster.OneTxn, func() { l, err = m.TryLock(ctx) }, "TryLock on a free lock, round %d", round)
		require.NoError(t, err)
		c.Costs(t, cluster.OneTxn, func() { err = l.Unlock(ctx) }, "unlock, round %d", round)
		require.NoError(t, err)
		c.Costs(t, cluster.OneTxn, func() { term, err = e.Campaign(ctx, "x") }, "campaign, round %d", round)
		require.NoError(t, err)
		c.Costs(t, cluster.OneTxn, func() { err = term.Proclaim(ctx, "y") }, "proclaim, round %d", round)
		require.NoError(t, err)
		c.Costs(t, cluster.OneTxn, func() { err = term.Resign(ctx) }, "resign, round %d", round)
		require.NoError(t, err)
	}
}

// trap A13
func TestATryLockOnATakenLockCostsOneRequestAndNoWrite(t *testing.T) {
	f := newFixture(t)
	l, err := etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock").Lock(f.Ctx())
	require.NoError(t, err)
	var c cluster.Counter
	m := etcdlock.NewMutex(f.Session(f.Client(c.Options()...), cluster.LongTTL), "lock")
	before := f.Revision()
	for range 3 {
		c.Costs(t, cluster.OneTxn, func() { _, err = m.TryLock(f.Ctx()) })
		require.ErrorIs(t, err, etcdlock.ErrLocked)
	}
	require.Equal(t, before, f.Revision(), "something was written")
	cluster.Release(t, l)
}

func TestWaitingCostsTwoRequestsAndTheHandoverNone(t *testing.T) {
	f := newFixture(t)
	holder, err := etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "lock").Lock(f.Ctx())
	require.NoError(t, err)
	var c cluster.Counter
	m := etcdlock.NewMutex(f.Session(f.Client(c.Options()...), cluster.LongTTL), "lock")
	var next *etcdlock.Lock
	c.Costs(t, cluster.InLine(1), func() {
		waiting := cluster.LockInBackground(f.Ctx(), m)
		f.WaitForKeys("lock", 2)
		cluster.StillWaiting(t, waiting, 500*time.Millisecond)
		cluster.Release(t, holder)
		next = cluster.Granted(t, waiting).Handle
	})
	cluster.Release(t, next)
}

func TestSiblingsOfTheHolderWaitWithoutARequest(t *testing.T) {
	f := newFixture(t)
	var c cluster.Counter
	s := f.Session(f.Client(c.Options()...), cluster.LongTTL)
	l, err := etcdlock.NewMutex(s, "lock").Lock(f.Ctx())
	require.NoError(t, err)
	const siblings = 3
	granted := make(chan *etcdlock.Lock, siblings)
	c.Costs(t, cluster.Cost{}, func() {
		_, err := etcdlock.NewMutex(s, "lock").TryLock(f.Ctx())
		require.ErrorIs(t, err, etcdlock.ErrLocked)
		for range siblings {
			ctx, waits := cluster.Waiting(f.Ctx())
			go func() {
				l, err := etcdlock.NewMutex(s, "lock").Lock(ctx)
				assert.NoError(t, err)
				granted <- l
			}()
			cluster.Receive(t, waits, "a wait")
		}
		cluster.NothingComes(t, granted, 60*time.Millisecond)
	}, "siblings of the holder wait without a request")
	sent := c.During(func() {
		cluster.Release(t, l)
		for range siblings {
			l := cluster.Receive(t, granted, "a grant")
			require.NotNil(t, l)
			require.NoError(t, l.Err())
			cluster.Release(t, l)
		}
	})
	t.Logf("figure: %d handovers inside one process and the last unlock: %d requests", siblings, len(sent))
	f.WaitForKeys("lock", 0)
}
