package etcdlocktest_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/etcdlocktest"
)

func TestHandlesForUnitTests(t *testing.T) {
	test := func(t *testing.T) {
		lock := etcdlocktest.NewLock(t, etcdlocktest.Handle{Name: "orders", Token: 4711})
		require.EqualValues(t, 4711, lock.Token())
		require.Equal(t, "orders", lock.Name())
		require.NoError(t, lock.Err())
		require.False(t, lock.Deadline().IsZero())
		require.NoError(t, lock.Unlock(t.Context()))
		require.ErrorIs(t, lock.Unlock(t.Context()), etcdlock.ErrReleased)

		for _, reason := range []error{
			etcdlock.ErrExpired, etcdlock.ErrRevoked, etcdlock.ErrEvicted, etcdlock.ErrSessionClosed, etcdlock.ErrClientClosed,
		} {
			lost := etcdlocktest.NewLock(t, etcdlocktest.Handle{Err: reason})
			require.ErrorIs(t, lost.Err(), reason)
			require.ErrorIs(t, lost.Unlock(t.Context()), reason)
			term := etcdlocktest.NewTerm(t, "host-a", etcdlocktest.Handle{})
			require.NoError(t, term.Err())
			etcdlocktest.End(t, term, reason)
			require.ErrorIs(t, term.Err(), reason)
		}
		require.EqualValues(t, 2, etcdlocktest.NewLock(t, etcdlocktest.Handle{Token: 2}).Token(), "it is kept to the end of the test")
	}
	t.Run("wall clock", test)
	t.Run("virtual time", func(t *testing.T) { synctest.Test(t, test) })
}

func TestAMonitorOfAChosenStatus(t *testing.T) {
	term := etcdlocktest.NewTerm(t, "host-a", etcdlocktest.Handle{Token: 9})
	m := etcdlocktest.NewMonitor(etcdlock.ElectionStatus{Election: "scheduler", Running: true, Role: etcdlock.RoleLeading}, term)
	s := m.Status()
	require.True(t, s.Leading())
	require.EqualValues(t, 9, s.Term.Token)
	require.Equal(t, "host-a", s.Term.Value)
	etcdlocktest.End(t, term, etcdlock.ErrExpired)
	require.False(t, m.Status().Leading())

	m = etcdlocktest.NewMonitor(etcdlock.ElectionStatus{Role: etcdlock.RoleCandidate, Session: etcdlock.StateSuspended}, nil)
	require.Equal(t, etcdlock.StateSuspended, m.Status().Session)
	require.Nil(t, m.Status().Term)
}

// A function that gets a lock is tested with one that is lost.
func ExampleNewLock() {
	save := func(lock *etcdlock.Lock) error {
		if err := lock.Err(); err != nil {
			return fmt.Errorf("not saved: %w", err)
		}
		return nil
	}
	synctest.Test(t, func(t *testing.T) {
		fmt.Println(save(etcdlocktest.NewLock(t, etcdlocktest.Handle{Token: 42})))
		err := save(etcdlocktest.NewLock(t, etcdlocktest.Handle{Err: etcdlock.ErrRevoked}))
		fmt.Println(errors.Is(err, etcdlock.ErrRevoked))
	})
	// Output:
	// <nil>
	// true
}

// A probe is tested with a monitor in the status that matters.
func ExampleNewMonitor() {
	ready := func(m *etcdlock.Monitor) bool { return m.Status().Session != etcdlock.StateLost }
	fmt.Println(ready(etcdlocktest.NewMonitor(etcdlock.ElectionStatus{Session: etcdlock.StateConnected}, nil)))
	fmt.Println(ready(etcdlocktest.NewMonitor(etcdlock.ElectionStatus{Session: etcdlock.StateLost}, nil)))
	// Output:
	// true
	// false
}
