package etcdlock

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// report L9
func TestAnAddressWithoutBracketsIsRefusedWithWhatToDo(t *testing.T) {
	for address, says := range map[string]string{
		"fd00::5:7400": "brackets", "::1:7400": "brackets", "fd00::5": "brackets",
		":7400": "an address of this host", "0.0.0.0:7400": "an address of this host", "[::]:7400": "an address of this host", "10.0.0.5": "with a port",
	} {
		_, err := newBeacon(tcp{}, address)
		require.ErrorIs(t, err, ErrInvalidOption, address)
		require.ErrorContains(t, err, says, address)
	}
	b, err := newBeacon(tcp{}, net.JoinHostPort("::1", "0"))
	if err != nil {
		require.NotErrorIs(t, err, ErrInvalidOption, "this machine may have no IPv6")
		return
	}
	require.NoError(t, b.listener.Close())
	b.tasks.Wait()
}
