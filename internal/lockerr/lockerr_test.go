package lockerr

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnInvalidArgumentOrOptionMatchesWhatItIs(t *testing.T) {
	for _, err := range []error{ErrInvalidName, ErrInvalidPermits, ErrTooManyNames, ErrNilClient} {
		require.ErrorIs(t, err, ErrInvalidArgument)
		require.NotErrorIs(t, err, ErrInvalidOption)
		require.NotErrorIs(t, ErrInvalidArgument, err)
	}
	require.ErrorIs(t, ErrInvalidTTL, ErrInvalidOption)
	require.NotErrorIs(t, ErrInvalidTTL, ErrInvalidArgument)
}

func TestALossMatchesItsReason(t *testing.T) {
	err := Lost(ErrEvicted)
	require.ErrorIs(t, err, ErrLost)
	require.ErrorIs(t, err, ErrEvicted)
	require.NotErrorIs(t, err, ErrExpired)
	require.EqualError(t, err, "lost: another client deleted its key")
}
