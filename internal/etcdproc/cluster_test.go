package etcdproc

import (
	"fmt"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// An outgoing connection never has the port of a member: one that is restarted finds it free.
func TestPortsOfMembersAreNoneOfOutgoingConnections(t *testing.T) {
	ports, err := FreePorts(40)
	require.NoError(t, err)
	seen := map[int]bool{}
	for _, port := range ports {
		require.False(t, seen[port], "twice")
		seen[port] = true
		require.Less(t, port, 32768, "where those begin on Linux; elsewhere they are higher")
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		require.NoError(t, err)
		require.NoError(t, l.Close())
	}
}
