//go:build linux

package main

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
)

func TestACommandRunsUnderTheLockAndLearnsOfIt(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	began := time.Now()
	p := start(t, "lock", "--ttl", "30s", "--owner", "nightly", name, "--", "sh", "-c",
		`echo "key $ETCDLOCK_KEY"; echo "token $ETCDLOCK_TOKEN"; echo "name $ETCDLOCK_NAME"; echo "until $ETCDLOCK_DEADLINE"; read go < `+fifo(t)+`; exit 7`)
	key := p.says("key ")
	require.Equal(t, []string{key}, keysOf(t, name))
	token, err := strconv.ParseInt(p.says("token "), 10, 64)
	require.NoError(t, err)
	require.Equal(t, name, p.says("name "))
	until, err := time.Parse(time.RFC3339Nano, p.says("until "))
	require.NoError(t, err)
	require.WithinRange(t, until, began.Add(28*time.Second), time.Now().Add(30*time.Second))

	q, err := etcdlock.NewMutex(newSession(t), name).Queue(t.Context())
	require.NoError(t, err)
	require.Len(t, q, 1)
	require.Equal(t, "nightly", q[0].Owner)
	require.Equal(t, p.cmd.Process.Pid, q[0].PID)
	require.Equal(t, token, q[0].CreateRevision, "there was no earlier holder")

	openFifo(t)
	require.Equal(t, 7, p.wait())
	p.noProcessLeft()
	require.False(t, leaseLives(t, key), "it is revoked when etcdlock ends, and not later")
	nothingLeft(t, name, key)
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	taken := nameOf(t)
	_, err := etcdlock.NewMutex(newSession(t), taken).Lock(t.Context())
	require.NoError(t, err)
	plain := filepath.Join(t.TempDir(), "plain")
	require.NoError(t, os.WriteFile(plain, nil, 0o600))
	nobody, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and does not answer
	require.NoError(t, err)
	defer nobody.Close()
	free := nameOf(t)

	for _, c := range []struct {
		code int
		says string
		args []string
	}{
		{0, "", []string{"lock", free, "--", "true"}},
		{7, "", []string{"lock", free, "--", "sh", "-c", "exit 7"}},
		{128 + 9, "", []string{"lock", free, "--", "sh", "-c", "kill -9 $$"}},
		{exitBusy, "locked by another holder", []string{"lock", "--try", taken, "--", "true"}},
		{exitBusy, "locked by another holder", []string{"lock", "--try", free, taken, "--", "true"}},
		{exitTimedOut, "not acquired within " + soon, []string{"lock", "--timeout", soon, taken, "--", "true"}},
		{5, "locked by another holder", []string{"lock", "-n", "-E", "5", taken, "--", "true"}},
		{0, "locked by another holder", []string{"lock", "-n", "-E", "0", taken, "--", "true"}},
		{6, "not acquired", []string{"lock", "-w", soon, "-E", "6", taken, "--", "true"}},
		{exitNotFound, "not found", []string{"lock", free, "--", "no-such-command"}},
		{exitNotRun, "permission denied", []string{"lock", free, "--", plain}},
		{exitUsage, "two dashes", []string{"lock", free, "true"}},
		{exitUsage, "two dashes", []string{"lock", free, "--"}},
		{exitUsage, "give a name", []string{"lock", "--", "true"}},
		{exitUsage, "unknown flag", []string{"lock", "--nonsense", free, "--", "true"}},
		{exitUsage, "invalid name", []string{"lock", "a/", "--", "true"}},
		{0, "", []string{"lock", "--foreign-names", "/my-lock/", "--", "true"}},
		{exitUsage, "whole seconds", []string{"lock", "--ttl", "1500ms", free, "--", "true"}},
		{exitUsage, "minimum", []string{"lock", "--ttl", "1s", free, "--", "true"}},
		{exitUsage, "--on-lost", []string{"lock", "--on-lost", "pray", free, "--", "true"}},
		{exitUsage, "--on-ask", []string{"lock", "--on-ask", "SIGNONE", free, "--", "true"}},
		{exitUsage, "--grace", []string{"lock", "--ttl", "4s", "--grace", "3s", free, "--", "true"}},
		{exitUsage, "--permits", []string{"lock", "--permits", "2", free, "--", "true"}},
		{exitUsage, "11 of 10", []string{"lock", "--permits", "11/10", free, "--", "true"}},
		{exitUnreachable, "not answered", []string{"lock", "--endpoints", nobody.Addr().String(), "--command-timeout", "500ms", free, "--", "true"}},
		{exitUsage, "unknown command", []string{"frobnicate", free}},
	} {
		p, timeout := runInTime(t, c.args...)
		require.Equal(t, c.code, p.code, "%v\n%s", c.args, &p.stderr)
		require.Contains(t, p.stderr.String(), strings.ReplaceAll(c.says, soon, timeout), "%v", c.args)
		if c.says != "" {
			require.Equal(t, 1, strings.Count(p.stderr.String(), "\n"), "one line: %s", &p.stderr)
		}
		p.noProcessLeft()
	}
	nothingLeft(t, free)
}

func TestTheEnvironmentOfEtcdctlCounts(t *testing.T) {
	t.Setenv("ETCDCTL_COMMAND_TIMEOUT", "soon")
	p := runToEnd(t, "lock", nameOf(t), "--", "true")
	require.Equal(t, exitUsage, p.code)
	require.Contains(t, p.stderr.String(), "ETCDCTL_COMMAND_TIMEOUT")

	p = runToEnd(t, "lock", "--command-timeout", "5s", nameOf(t), "--", "true")
	require.Zero(t, p.code, "a flag goes before it: %s", &p.stderr)
}

func TestSignalsAreForTheCommand(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	p := start(t, "lock", name, "--", "sh", "-c", `trap 'echo usr1' USR1; trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.05; done`)
	p.says("ready")
	p.signal(syscall.SIGUSR1)
	p.says("usr1")
	p.signal(syscall.SIGTERM)
	p.says("term")
	require.Equal(t, 3, p.wait())
	p.noProcessLeft()
	nothingLeft(t, name)
}

func TestASignalEndsTheWaitAndLeavesNothing(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	lock, err := etcdlock.NewMutex(newSession(t), name).Lock(t.Context())
	require.NoError(t, err)
	p := start(t, "lock", name, "--", "echo", "ran")
	eventually(t, func() bool { return len(keysOf(t, name)) == 2 }, "it waits")
	var key string
	for _, k := range keysOf(t, name) {
		if k != lock.Key() {
			key = k
		}
	}
	p.signal(syscall.SIGTERM)
	require.Equal(t, 128+15, p.wait())
	require.False(t, leaseLives(t, key))
	require.Equal(t, []string{lock.Key()}, keysOf(t, name))
	require.Empty(t, p.output())
}

func TestWhatTheCommandLeavesBehindIsKilledBeforeTheRelease(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	p := start(t, "lock", name, "--", "sh", "-c",
		`sh -c 'trap "" TERM HUP; while :; do sleep 0.05; done' & echo "grandchild $!"; read go < `+fifo(t))
	grandchild := p.pid("grandchild ")
	granted := waitBehind(t, name, grandchild)
	openFifo(t)
	require.Empty(t, receive(t, granted, "the grant to the next one"), "the grandchild has ended")
	require.Zero(t, p.wait())
	p.noProcessLeft()
}

// fifo is the path of a named pipe, one for each test.
func fifo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(os.TempDir(), "etcdlock-test-"+strings.ReplaceAll(t.Name(), "/", "-")+strconv.Itoa(os.Getpid()))
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	t.Cleanup(func() { _ = os.Remove(path) })
	return path
}

// openFifo lets the reader of the pipe continue.
func openFifo(t *testing.T) {
	t.Helper()
	path := filepath.Join(os.TempDir(), "etcdlock-test-"+strings.ReplaceAll(t.Name(), "/", "-")+strconv.Itoa(os.Getpid()))
	require.NoError(t, os.WriteFile(path, []byte("\n"), 0))
}

func TestSeveralNamesAreHeldAtOnce(t *testing.T) {
	t.Parallel()
	a, b := nameOf(t)+"a", nameOf(t)+"b"
	p := start(t, "lock", a, b, "--", "sh", "-c", `echo "key $ETCDLOCK_KEY"; read go < `+fifo(t))
	keys := strings.Fields(p.says("key "))
	require.Equal(t, keys, append(keysOf(t, a), keysOf(t, b)...))
	openFifo(t)
	require.Zero(t, p.wait())
	nothingLeft(t, a, keys[0])
	nothingLeft(t, b)
}

func TestSharedLocksAndPermitsAreHeldBesideOthers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind          string
		beside, alone []string
	}{
		{"shared", []string{"--shared"}, nil},
		{"permits", []string{"--permits", "2/3"}, []string{"--permits", "2/3"}},
	} {
		t.Run(c.kind, func(t *testing.T) {
			name := nameOf(t)
			hold := append(append([]string{"lock"}, c.beside...), name, "--", "sh", "-c", "echo in; read go < "+fifo(t))
			p := start(t, hold...)
			p.says("in")
			beside := c.beside
			if c.kind == "permits" {
				beside = []string{"--permits", "1/3"}
			}
			require.Zero(t, runToEnd(t, append(append([]string{"lock", "--try"}, beside...), name, "--", "true")...).code)
			require.Equal(t, exitBusy, runToEnd(t, append(append([]string{"lock", "--try"}, c.alone...), name, "--", "true")...).code)
			openFifo(t)
			require.Zero(t, p.wait())
			nothingLeft(t, name)
		})
	}
}

func TestAnIgnoredHangupStaysIgnored(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	p := start(t, "lock", name, "--", "nohup", os.Args[0], "lock", name+"x", "--", "sh", "-c", "echo ready; read go < "+fifo(t)+"; echo done")
	p.says("ready")
	p.signal(syscall.SIGHUP) // for the group of the inner command, which ignores it
	time.Sleep(200 * time.Millisecond)
	openFifo(t)
	p.says("done")
	require.Zero(t, p.wait())
}
