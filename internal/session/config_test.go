package session

import (
	"testing"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/stretchr/testify/require"
)

// report L9
func TestAnAddressWithoutBracketsIsRefusedWithWhatToDo(t *testing.T) {
	for address, says := range map[string]string{
		"fd00::5:7400": "brackets", "::1:7400": "brackets", "fd00::5": "brackets",
		":7400": "an address of this host", "0.0.0.0:7400": "an address of this host", "[::]:7400": "an address of this host", "10.0.0.5": "with a port",
	} {
		err := validateListenAddress(address)
		require.ErrorIs(t, err, lockerr.ErrInvalidOption, address)
		require.ErrorContains(t, err, says, address)
	}
	require.NoError(t, validateListenAddress("[fd00::5]:7400"))
}
