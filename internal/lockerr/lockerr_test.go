package lockerr

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestALossMatchesItsReason(t *testing.T) {
	err := Lost(ErrEvicted)
	require.ErrorIs(t, err, ErrLost)
	require.ErrorIs(t, err, ErrEvicted)
	require.NotErrorIs(t, err, ErrExpired)
	require.EqualError(t, err, "lost: its key was deleted by somebody else")
}
