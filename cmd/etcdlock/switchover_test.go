//go:build linux

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
)

// leaderScript is the command of a candidate. It takes a moment to end.
const leaderScript = `trap 'echo stopped; exit 0' TERM; echo "leader $ETCDLOCK_ID"; while :; do sleep 0.05; done`

func elects(t *testing.T, name, id string, flags ...string) *process {
	args := append([]string{"elect", name, "--ttl", ttl.String(), "--id", id}, flags...)
	return start(t, append(args, "--", "sh", "-c", leaderScript)...)
}

func TestTransferAndStepDownEndTheCommandFirst(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	a := elects(t, name, "a")
	a.says("leader ")
	b, c := elects(t, name, "b", "--priority", "1"), elects(t, name, "c")
	eventually(t, func() bool { return len(keysOf(t, name+"/")) == 3 }, "they wait")

	transfer := runToEnd(t, "transfer", name, "--to", "c", "--owner", "ops", "--reason", "new kernel")
	require.Zero(t, transfer.code, "%s", &transfer.stderr)
	require.Contains(t, transfer.stderr.String(), `has handed over to "c", after `)
	a.says("stopped")
	require.Equal(t, "c", c.says("leader "))
	require.Contains(t, a.stderr.String(), `asked to resign by "ops" (`)
	require.Contains(t, a.stderr.String(), "new kernel")

	require.Zero(t, runToEnd(t, "step-down", name).code)
	c.says("stopped")
	require.Equal(t, "b", b.says("leader "))

	require.Zero(t, runToEnd(t, "ask", "--timeout", long.String(), name).code)
	b.says("stopped")
	eventually(t, func() bool { return len(keysOf(t, name+"/")) == 3 }, "they campaign again")
	for _, p := range []*process{a, b, c} {
		p.signal(sigterm)
		p.wait()
	}
	nothingLeft(t, name)
}

func TestARequestThatCannotBeFulfilledSaysWhatToDo(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	none := runToEnd(t, "step-down", name)
	require.Equal(t, exitFailure, none.code)
	require.Contains(t, none.stderr.String(), "no leader")
	require.Equal(t, exitUsage, runToEnd(t, "transfer", name).code)

	a := elects(t, name, "a", "--on-ask", "ignore")
	a.says("leader ")
	alone := runToEnd(t, "step-down", name)
	require.Equal(t, exitFailure, alone.code)
	require.Contains(t, alone.stderr.String(), "no other candidate waits")
	b := elects(t, name, "b")
	eventually(t, func() bool { return len(keysOf(t, name+"/")) == 2 }, "it waits")
	refused := runToEnd(t, "transfer", name, "--to", "b")
	require.Equal(t, exitNotHonoured, refused.code)
	require.Contains(t, refused.stderr.String(), "etcdlock evict "+name)
	require.Equal(t, exitFailure, runToEnd(t, "transfer", name, "--to", "c").code)
	a.signal(sigterm)
	a.wait()
	b.says("leader ")
	b.signal(sigterm)
	b.wait()
}

// leadsOn starts a leader that does not end its command, and a candidate that waits.
func leadsOn(t *testing.T, name string) *process {
	t.Helper()
	a := start(t, "elect", name, "--ttl", long.String(), "--", "sh", "-c",
		`trap 'echo asked' TERM; echo "leader"; while :; do sleep 0.05; done`)
	a.says("leader")
	other := newSession(t)
	go func() { _, _ = etcdlock.NewElection(other, name).Campaign(t.Context(), "b") }()
	eventually(t, func() bool { return len(keysOf(t, name+"/")) == 2 }, "it waits")
	return a
}

func TestARequestToACommandThatDoesNotEndTimesOut(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	a := leadsOn(t, name)
	p, _ := runInTime(t, "step-down", "--timeout", soon, name)
	require.Equal(t, exitTimedOut, p.code, "%s", &p.stderr)
	a.says("asked")
	require.NoError(t, a.cmd.Process.Kill())
	a.wait()
}

// The command was killed after a quarter of the TTL, as before a loss, although the lease was renewed.
func TestATransferWaitsForACommandThatStopsSlowly(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		stop  string // --stop-timeout
		clean bool
	}{{"1h", true}, {"0", true}, {"500ms", false}} {
		t.Run(c.stop, func(t *testing.T) {
			t.Parallel()
			name := nameOf(t)
			a := start(t, "elect", name, "--ttl", ttl.String(), "--id", "a", "--stop-timeout", c.stop, "--", "sh", "-c",
				`trap 'echo stopping; sleep 4; echo clean; exit 0' TERM; echo leader; while :; do sleep 0.05; done`)
			a.says("leader")
			b := elects(t, name, "b")
			eventually(t, func() bool { return len(keysOf(t, name+"/")) == 2 }, "it waits")
			p := runToEnd(t, "transfer", name, "--to", "b", "--timeout", long.String())
			require.Zero(t, p.code, "%s", &p.stderr)
			b.says("leader ")
			for _, p := range []*process{a, b} {
				p.signal(sigterm)
				p.wait()
			}
			require.Equal(t, c.clean, strings.Contains(a.output(), "clean"), "%s", &a.stderr)
		})
	}
}

// The code 102 says that a command lost its lock, and was ended. A request goes with its lease.
func TestARequestWhoseLeaseIsLostIsNoLossOfALock(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"ask", "step-down"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			name := nameOf(t)
			leadsOn(t, name)
			p := start(t, command, name)
			var requests *clientv3.GetResponse
			eventually(t, func() (ok bool) {
				var err error
				requests, err = dev.client.Get(t.Context(), name+"\x00ask/", clientv3.WithPrefix())
				return err == nil && len(requests.Kvs) == 1
			}, "the request stands")
			_, err := dev.client.Revoke(t.Context(), clientv3.LeaseID(requests.Kvs[0].Lease))
			require.NoError(t, err)
			require.Equal(t, exitUnreachable, p.wait(), "%s", &p.stderr)
			require.Contains(t, p.stderr.String(), "the request is withdrawn")
		})
	}
}
