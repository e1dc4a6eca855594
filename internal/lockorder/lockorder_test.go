//go:build lockorder

package lockorder

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAWrongOrderPanics(t *testing.T) {
	var (
		s  Session
		m  Manager
		h  Hold
		l  Lease
		m2 Manager
	)
	s.Lock()
	m.Lock()
	h.Lock()
	h.Unlock()
	require.PanicsWithValue(t, "lockorder: the mutex of a lease is taken while that of a manager is held", l.Lock)
	require.Panics(t, m2.Lock, "two of one type")
	m.Unlock()
	l.Lock()
	require.Panics(t, h.Lock)
	l.Unlock()
	s.Unlock()
	h.Lock()
	require.Panics(t, s.Lock)
	require.Panics(t, m.Lock)
	h.Unlock()
	require.Empty(t, all.by)
}
