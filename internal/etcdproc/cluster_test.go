package etcdproc

import (
	"fmt"
	"net"
	"os"
	"runtime"
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
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		require.NoError(t, err)
		require.NoError(t, l.Close())
	}
	if runtime.GOOS != "linux" {
		return
	}
	var first, last int
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	require.NoError(t, err)
	_, err = fmt.Sscan(string(text), &first, &last)
	require.NoError(t, err)
	if first != 32768 {
		t.Skipf("the system is set otherwise: %s", text)
	}
	for _, port := range ports {
		require.Less(t, port, first)
	}
}
