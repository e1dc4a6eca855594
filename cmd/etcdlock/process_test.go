//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/etcdlock/etcdlock/cmd/etcdlock/internal/beside"
)

// zombiesOf are the children of a process that have ended and were not reaped.
func zombiesOf(t *testing.T, pid int) (zombies []int) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(t, err)
	for _, dir := range dirs {
		child, _ := strconv.Atoi(filepath.Base(dir))
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if fields[0] == "Z" && fields[1] == strconv.Itoa(pid) {
			zombies = append(zombies, child)
		}
	}
	return zombies
}

// orphans leaves 20 processes behind that end without a parent.
const orphans = `for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do (sh -c 'sleep 0.0$1' - $i & echo "orphan $!"); done; `

// report P3
func TestOrphansAreReaped(t *testing.T) {
	for _, under := range [][]string{{"lock"}, {"elect", "--once", "--health", "true", "--health-interval", "50ms", "--health-failures", "1000000"}} {
		t.Run(under[0], func(t *testing.T) {
			t.Setenv(beside.AsSubreaper, "1")
			p := start(t, append(append([]string{os.Args[0]}, under...), nameOf(t), "--", "sh", "-c", orphans+`echo ready; read go < `+fifo(t)+`; exit 7`)...)
			p.says("ready")
			var first int
			eventually(t, func() bool { first = p.guard(); return first != 0 }, "there is a guard")
			require.NoError(t, syscall.Kill(first, syscall.SIGKILL)) // its own children are not taken from it
			eventually(t, func() bool { g := p.guard(); return g != 0 && g != first && len(zombiesOf(t, p.cmd.Process.Pid)) == 0 }, "no zombie is left")
			openFifo(t)
			require.Equal(t, 7, p.wait(), "%s", &p.stderr)
		})
	}
}

// report P3
func TestAsProcessOne(t *testing.T) {
	unshare := []string{"--pid", "--fork", "--mount-proc", "--kill-child"}
	if out, err := exec.Command("unshare", append(unshare, "true")...).CombinedOutput(); err != nil {
		t.Skipf("no namespaces of processes here, and TestOrphansAreReaped has the rest: %v: %s", err, out)
	}
	name := nameOf(t)
	cmd := exec.Command("unshare", append(unshare, os.Args[0], "lock", name, "--", "sh", "-c",
		`grep -c . /proc/1/comm; `+orphans+`n=0; while cat /proc/[0-9]*/stat 2> /dev/null | grep -q ") Z " && [ $n -lt 600 ]; do n=$((n+1)); sleep 0.1; done; [ $n -lt 600 ] && echo reaped; kill -TERM 1; sleep 60`)...)
	cmd.Env = append(os.Environ(), asCommand+"=1", noSleep, "ETCDCTL_ENDPOINTS="+dev.endpoint)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.Error(t, err)
	require.Equal(t, 128+15, cmd.ProcessState.ExitCode(), "%s%s", out, &stderr)
	lines := strings.Fields(string(out))
	require.Equal(t, "reaped", lines[len(lines)-1], "there is always a zombie: %s", out)
	nothingLeft(t, name)
}

// report P4
func TestWhileItsFileIsReplacedItGoesOn(t *testing.T) {
	t.Parallel()
	for what, replace := range map[string]func(t *testing.T, path string){
		"removed": func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) },
		"replaced": func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path+".new", []byte("#!/bin/sh\necho another version >&2; exit 9\n"), 0o755))
			require.NoError(t, os.Rename(path+".new", path))
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "etcdlock")
			copyFile(t, os.Args[0], path)
			p := startFile(t, path, dev.endpoint, "elect", nameOf(t), "--", "sh", "-c", `echo "child $$"; read go < `+fifo(t))
			p.pid("child ")
			replace(t, path)
			var first int
			eventually(t, func() bool { first = p.guard(); return first != 0 }, "there is a guard")
			require.NoError(t, syscall.Kill(first, syscall.SIGKILL))
			eventually(t, func() bool { g := p.guard(); return g != 0 && g != first }, "there is another one")
			comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.guard()))
			require.NoError(t, err)
			require.Equal(t, "etcdlock\n", string(comm))
			for range 2 { // terms
				openFifo(t)
				p.pid("child ")
			}
			p.signal(syscall.SIGTERM)
			require.Equal(t, 128+15, p.wait(), "%s", &p.stderr)
			require.NotContains(t, p.stderr.String(), "another version")
		})
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	r, err := os.Open(from)
	require.NoError(t, err)
	defer r.Close()
	// A process that is started at this time has the file open until it runs its own program, and a
	// file that is open for writing cannot be run.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	w, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	require.NoError(t, err)
	_, err = io.Copy(w, r)
	require.NoError(t, err)
	require.NoError(t, w.Close())
}

// descriptorsUnder runs a command with descriptors of the caller and a prefix before it. It returns
// the descriptors of the command and their files.
func descriptorsUnder(t *testing.T, prefix string) string {
	t.Helper()
	script := prefix + ` sh -c 'for f in /proc/$$/fd/*; do n=${f##*/}; case $n in 10) ;; *) echo $n $(readlink $f);; esac; done'`
	cmd := exec.Command("bash", "-c", `exec 3</dev/null 4>/dev/zero 7<>/dev/full 9>/dev/null 33</dev/zero </dev/null 2>/dev/null; `+script)
	cmd.Env = append(os.Environ(), asCommand+"=1", noSleep, "ETCDCTL_ENDPOINTS="+dev.endpoint)
	out, err := cmd.Output()
	require.NoError(t, err)
	var lines []string
	for _, l := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		if !strings.Contains(l, "pipe:") || !strings.HasPrefix(l, "1 ") {
			lines = append(lines, l)
		}
	}
	return regexp.MustCompile(`pipe:\[\d+\]`).ReplaceAllString(strings.Join(lines, "\n"), "pipe")
}

// report P5
func TestTheCommandHasTheCallersDescriptorsAndNoOthers(t *testing.T) {
	t.Parallel()
	alone := descriptorsUnder(t, "")
	require.Contains(t, alone, "33 /dev/zero")
	require.Equal(t, alone, descriptorsUnder(t, os.Args[0]+" lock "+nameOf(t)+" --"))
	require.Equal(t, alone, descriptorsUnder(t, os.Args[0]+" elect --once "+nameOf(t)+" --"))
}

// report P5
func TestADescriptorThatIsNonBlockingStaysSo(t *testing.T) {
	t.Parallel()
	var ends [2]int
	require.NoError(t, unix.Pipe2(ends[:], unix.O_NONBLOCK|unix.O_CLOEXEC))
	defer unix.Close(ends[0])
	defer unix.Close(ends[1])
	in, out := uintptr(ends[0]), uintptr(ends[1])
	pid, err := syscall.ForkExec(os.Args[0], []string{"etcdlock", "lock", nameOf(t), "--", "true"}, &syscall.ProcAttr{
		Env:   append(os.Environ(), asCommand+"=1", noSleep, "ETCDCTL_ENDPOINTS="+dev.endpoint),
		Files: []uintptr{in, out, 2, in},
	})
	require.NoError(t, err)
	var status syscall.WaitStatus
	_, err = syscall.Wait4(pid, &status, 0, nil)
	require.NoError(t, err)
	require.Zero(t, status.ExitStatus())
	for _, fd := range ends {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		require.NoError(t, err)
		require.NotZero(t, flags&unix.O_NONBLOCK)
	}
}

// report P5
func TestMakeSharesItsJobs(t *testing.T) {
	t.Parallel()
	// Each job waits until another one has begun too.
	const below = `all: a b c d
a b c d:
	@echo start; touch $@.began; n=0; while [ $$(ls *.began | wc -l) -lt 2 ] && [ $$n -lt 200 ]; do n=$$((n+1)); sleep 0.1; done; echo end
`
	for what, flags := range map[string][]string{"by descriptors": {"-j2"}, "by a named pipe": {"-j2", "--jobserver-style=fifo"}} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			if out, err := exec.Command("make", append(flags, "--version")...).CombinedOutput(); err != nil {
				t.Skipf("this make has no such jobserver: %s", out)
			}
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "below"), []byte(below), 0o600))
			top := fmt.Sprintf("all:\n\t+@%s lock %s -- $(MAKE) -s -f below\n", os.Args[0], nameOf(t))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "Makefile"), []byte(top), 0o600))
			cmd := exec.Command("make", flags...)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), asCommand+"=1", noSleep, "ETCDCTL_ENDPOINTS="+dev.endpoint)
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			require.NotContains(t, string(out), "jobserver unavailable")
			running, most := 0, 0
			for s := bufio.NewScanner(strings.NewReader(string(out))); s.Scan(); {
				switch s.Text() {
				case "start":
					running++
				case "end":
					running--
				}
				most = max(most, running)
			}
			require.Equal(t, 2, most, "%s", out)
		})
	}
}

// report P6
func TestWhatMayWorkTheNextTimeIsNoUsageError(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	missing := filepath.Join(t.TempDir(), "missing")
	for _, c := range []struct {
		code int
		args []string
	}{
		{exitFailure, []string{"elect", "--listen", l.Addr().String()}},
		{exitFailure, []string{"elect", "--listen", "192.0.2.1:80"}}, // the address may become one of this machine
		{exitUsage, []string{"elect", "--listen", "127.0.0.1"}},
		{exitUsage, []string{"elect", "--listen", ":no-such-service"}},
		{exitFailure, []string{"lock", "--cacert", missing}},
		{exitFailure, []string{"lock", "--cert", missing, "--key", missing}},
	} {
		p := runToEnd(t, append(c.args, nameOf(t), "--", "true")...)
		require.Equal(t, c.code, p.code, "%v: %s", c.args, &p.stderr)
		require.NotEmpty(t, p.stderr.String())
	}
}
