//go:build linux

package main

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/faultproxy"
)

const ttl = 5 * time.Second

// stubborn is a command that ignores what it can, with a grandchild that does too.
const stubborn = `trap 'echo told' TERM HUP INT
sh -c 'trap "" TERM HUP INT; while :; do sleep 0.05; done' &
echo "grandchild $!"; echo "key $ETCDLOCK_KEY"; echo "child $$"
while :; do sleep 0.05; done`

// trap E6
func TestKilledWithSignalNineItTakesTheCommandAlong(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	p := start(t, "lock", "--ttl", "1h", name, "--", "sh", "-c", stubborn)
	grandchild, key, pid := p.pid("grandchild "), p.says("key "), p.pid("child ")
	granted := waitBehind(t, name)
	p.signal(syscall.SIGKILL)
	for _, pid := range []int{pid, grandchild} {
		dies(t, pid) // and not at the deadline
	}
	p.noProcessLeft()
	require.True(t, leaseLives(t, key), "it runs out by itself")
	require.Empty(t, granted)
	_, err := dev.client.Revoke(t.Context(), leaseOf(t, key))
	require.NoError(t, err)
	receive(t, granted, "the grant to the next one")
}

// trap E5
func TestWhileItIsStoppedTheCommandDiesBeforeAnotherProcessHolds(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	p := start(t, "lock", "--ttl", ttl.String(), name, "--", "sh", "-c", stubborn)
	grandchild, key, pid := p.pid("grandchild "), p.says("key "), p.pid("child ")
	granted := waitBehind(t, name, pid, grandchild)
	p.signal(syscall.SIGSTOP)
	require.Empty(t, receive(t, granted, "the grant to the next one"), "they have ended before anybody else could hold")
	p.signal(syscall.SIGCONT)
	require.Equal(t, exitLost, p.wait())
	require.Contains(t, p.stderr.String(), "lost")
	p.noProcessLeft()
	require.False(t, leaseLives(t, key))
}

// trap E5
func TestCutOffItEndsTheCommandBeforeAnotherProcessHolds(t *testing.T) {
	for _, c := range []struct {
		how  string
		args []string
		told bool
	}{
		{"term", []string{"--on-lost", "term"}, true},
		{"kill", []string{"--on-lost", "kill"}, false},
	} {
		t.Run(c.how, func(t *testing.T) {
			t.Parallel()
			name := nameOf(t)
			proxy, err := faultproxy.New(dev.endpoint)
			require.NoError(t, err)
			defer proxy.Close()
			args := append(append([]string{"lock", "--ttl", ttl.String()}, c.args...), name, "--", "sh", "-c", stubborn)
			p := startOn(t, proxy.Endpoints()[0], args...)
			grandchild, key, pid := p.pid("grandchild "), p.says("key "), p.pid("child ")
			granted := waitBehind(t, name, pid, grandchild)
			proxy.Hold()
			require.Empty(t, receive(t, granted, "the grant to the next one"), "they have ended before anybody else could hold")
			require.Equal(t, exitLost, p.wait())
			p.noProcessLeft()
			require.Equal(t, c.told, strings.Contains(p.output(), "told"), "SIGTERM first")
			require.False(t, leaseLives(t, key))
		})
	}
}

func TestOnLostContinueLetsTheCommandRunOn(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	proxy, err := faultproxy.New(dev.endpoint)
	require.NoError(t, err)
	defer proxy.Close()
	p := startOn(t, proxy.Endpoints()[0], "lock", "--ttl", ttl.String(), "--on-lost", "continue", name, "--", "sh", "-c",
		"echo ready; read go < "+fifo(t)+"; exit 4")
	p.says("ready")
	granted := waitBehind(t, name)
	proxy.Hold()
	receive(t, granted, "the grant to the next one")
	eventually(t, func() bool { return strings.Contains(p.stderr.String(), "runs on without the lock") }, "it says so")
	openFifo(t)
	require.Equal(t, 4, p.wait())
}

func TestAShortCutIsSatOut(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	proxy, err := faultproxy.New(dev.endpoint)
	require.NoError(t, err)
	defer proxy.Close()
	p := startOn(t, proxy.Endpoints()[0], "lock", "--ttl", "10s", name, "--", "sh", "-c", "echo ready; read go < "+fifo(t))
	p.says("ready")
	proxy.Hold()
	time.Sleep(time.Second)
	proxy.Resume()
	time.Sleep(10 * time.Second) // longer than the lease would last
	openFifo(t)
	require.Zero(t, p.wait(), "%s", &p.stderr)
	require.Empty(t, p.stderr.String())
	nothingLeft(t, name)
}

func TestAnEvictedHoldersCommandIsKilledAtOnce(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	p := start(t, "lock", "--ttl", "1h", name, "--", "sh", "-c", stubborn)
	key, pid := p.says("key "), p.pid("child ")
	_, err := dev.client.Delete(t.Context(), key)
	require.NoError(t, err)
	dies(t, pid) // and not at the deadline
	require.Equal(t, exitLost, p.wait())
	require.Contains(t, p.stderr.String(), "deleted")
	p.noProcessLeft()
	require.False(t, leaseLives(t, key))
}

func TestAGuardThatIsKilledIsReplaced(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	p := start(t, "lock", "--ttl", ttl.String(), name, "--", "sh", "-c", stubborn)
	pid := p.pid("child ")
	var first int
	eventually(t, func() bool { first = p.guard(); return first != 0 }, "there is a guard")
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		require.NoError(t, syscall.Kill(first, sig))
	}
	time.Sleep(100 * time.Millisecond)
	require.Equal(t, first, p.guard(), "it survives signals that are for others")

	require.NoError(t, syscall.Kill(first, syscall.SIGKILL))
	eventually(t, func() bool { g := p.guard(); return g != 0 && g != first }, "there is another one")
	granted := waitBehind(t, name, pid)
	p.signal(syscall.SIGSTOP)
	require.Empty(t, receive(t, granted, "the grant to the next one"), "it has ended before")
	p.signal(syscall.SIGCONT)
	require.Equal(t, exitLost, p.wait())
	p.noProcessLeft()
}

// The wrapper has to reap its command, and end, though the guard stands still.
func TestAGuardThatIsStoppedHoldsNothingUp(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	p := start(t, "lock", name, "--", "sh", "-c", "echo ready; read go < "+fifo(t))
	p.says("ready")
	eventually(t, func() bool { return p.guard() != 0 }, "there is a guard")
	require.NoError(t, syscall.Kill(p.guard(), syscall.SIGSTOP))
	openFifo(t)
	require.Zero(t, p.wait())
	p.noProcessLeft()
	nothingLeft(t, name)
}

// report P1
func TestALockDelayTakesNothingFromTheCommandsTime(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"lock"}, {"elect", "--once"}} {
		args = append(args, "--ttl", ttl.String(), "--lock-delay", "13s", nameOf(t), "--", "sleep", "1")
		p := runToEnd(t, args...)
		require.Zero(t, p.code, "%v: %s", args, &p.stderr)
	}
}

func TestNoTemporaryFileIsLeft(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	require.Zero(t, runToEnd(t, "lock", nameOf(t), "--", "true").code)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}
