//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/etcdlock/etcdlock/cmd/etcdlock/internal/pty"
)

// desk is an interactive shell on a terminal, at which etcdlock is a command.
type desk struct {
	t *testing.T
	*pty.Shell
}

func sitDown(t *testing.T) *desk {
	t.Helper()
	bin := t.TempDir()
	require.NoError(t, os.Symlink(os.Args[0], filepath.Join(bin, "etcdlock")))
	s, err := pty.Start(asCommand+"=1", noSleep, "ETCDCTL_ENDPOINTS="+dev.endpoint, "PATH="+bin+":"+os.Getenv("PATH"))
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			jobs, _ := exec.Command("ps", "-A", "-o", "pid,ppid,pgid,tpgid,stat,wchan,args").Output()
			t.Logf("%s\n%s", s.Shown(), jobs)
		}
		s.Close()
	})
	return &desk{t, s}
}

func (d *desk) line(line string) {
	d.t.Helper()
	require.NoError(d.t, d.Line(line))
}

func (d *desk) types(keys string) {
	d.t.Helper()
	require.NoError(d.t, d.Type(keys))
}

func (d *desk) prompt() {
	d.t.Helper()
	require.NoError(d.t, d.Prompt(long))
}

func (d *desk) shows(expr string) []string {
	d.t.Helper()
	groups, err := d.Expect(expr, long)
	require.NoError(d.t, err)
	return groups
}

// command waits for the number that a command prints.
func (d *desk) command() int {
	d.t.Helper()
	pid, err := strconv.Atoi(d.shows(`up (\d+)\r\n`)[0])
	require.NoError(d.t, err)
	return pid
}

func (d *desk) code() int {
	d.t.Helper()
	code, err := d.Code(long)
	require.NoError(d.t, err)
	return code
}

// busy prints its number, and runs until it is killed.
const busy = `sh -c 'echo up $$; exec sleep 1000'`

// stateOf is the state of a process, as ps shows it.
func stateOf(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	return strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))[0]
}

// parentOf is the parent of a process.
func parentOf(t *testing.T, pid int) int {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	require.NoError(t, err)
	parent, err := strconv.Atoi(strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))[1])
	require.NoError(t, err)
	return parent
}

// asleep waits until a command and all processes between it and the shell are stopped.
func (d *desk) asleep(pid int) {
	d.t.Helper()
	for ; pid != d.Pid(); pid = parentOf(d.t, pid) {
		d.eventually(pid, "T")
	}
}

func (d *desk) eventually(pid int, states string) {
	d.t.Helper()
	eventually(d.t, func() bool { return strings.Contains(states, stateOf(pid)) }, "its state is one of "+states)
}

// report P2
func TestAJobStopsAndContinuesAsTheShellAsks(t *testing.T) {
	t.Parallel()
	for what, under := range map[string]string{
		"lock":             "etcdlock lock %s -- " + busy,
		"lock in a pipe":   "etcdlock lock %s -- " + busy + " | cat",
		"lock in a script": `bash -c 'etcdlock lock "$0" -- sh -c "echo up \$\$; exec sleep 1000"; echo no' %s`,
		"elect":            "etcdlock elect %s -- " + busy,
		"elect --once":     "etcdlock elect --once %s -- " + busy,
		"one in another":   "etcdlock lock %[1]s -- etcdlock lock %[1]sx -- " + busy,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			d, name := sitDown(t), nameOf(t)
			d.line(fmt.Sprintf(under, strings.ReplaceAll(name, " ", "-")))
			pid := d.command()
			for range 2 {
				require.NoError(t, d.Foreground(long))
				d.types(pty.Suspend)
				d.shows("Stopped")
				d.prompt()
				d.asleep(pid)
				d.line("fg")
				d.eventually(pid, "SRD")
			}
			d.types(pty.Suspend)
			d.prompt()
			d.asleep(pid)
			d.line("bg")
			d.prompt()
			d.eventually(pid, "SRD")
			d.line("fg")
			require.NoError(t, d.Foreground(long))
			d.types(pty.Suspend)
			d.shows("Stopped")
			d.prompt()
			d.asleep(pid)
			d.line("fg")
			d.eventually(pid, "SRD")
			require.NoError(t, d.Foreground(long))
			d.types(pty.Interrupt)
			d.prompt()
			require.True(t, dead(pid))
			if !strings.Contains(what, "pipe") {
				require.Equal(t, 130, d.code())
			}
		})
	}
}

// report P2
func TestAStoppedJobLosesItsLockAtTheDeadline(t *testing.T) {
	t.Parallel()
	for _, under := range []string{"lock", "elect --once"} {
		t.Run(under, func(t *testing.T) {
			t.Parallel()
			d, name := sitDown(t), strings.ReplaceAll(nameOf(t), " ", "-")
			d.line(fmt.Sprintf("etcdlock %s --ttl %v %s -- %s", under, ttl, name, busy))
			pid := d.command()
			granted := waitBehind(t, name, pid)
			d.types(pty.Suspend)
			d.shows("Stopped")
			d.prompt()
			require.Empty(t, receive(t, granted, "the grant to the next one"), "it has ended before another process could hold")
			d.line("fg")
			d.shows("lost")
			d.prompt()
			require.Equal(t, exitLost, d.code())
		})
	}
}

// report P2
func TestAStoppedCommandCanBeTerminated(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		stop func(d *desk, pid int)
		end  func(d *desk, name string)
	}{
		"a job, by the shell": {
			func(d *desk, _ int) { d.types(pty.Suspend) },
			func(d *desk, _ string) { d.line("kill %1") },
		},
		"a job in the background that was continued": {
			func(d *desk, pid int) { d.types(pty.Suspend); d.prompt(); d.asleep(pid); d.line("bg") },
			func(d *desk, _ string) { d.line("kill %1") },
		},
		"by itself, by a signal to etcdlock": {
			func(d *desk, pid int) { require.NoError(d.t, syscall.Kill(pid, syscall.SIGSTOP)); d.asleep(pid) },
			func(d *desk, _ string) { d.line("kill -TERM %1; kill -CONT %1") },
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			d, name := sitDown(t), strings.ReplaceAll(nameOf(t), " ", "-")
			d.line("etcdlock lock " + name + " -- " + busy)
			pid := d.command()
			c.stop(d, pid)
			d.prompt()
			c.end(d, name)
			dies(t, pid)
			d.prompt()
			nothingLeft(t, name)
		})
	}
}

// report P2
func TestWithoutATerminalACommandThatIsStoppedCanBeTerminated(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	p := start(t, "lock", name, "--", "sh", "-c", `trap 'exit 3' TERM; echo "child $$"; while :; do sleep 0.05; done`)
	pid := p.pid("child ")
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	eventually(t, func() bool { return stateOf(pid) == "T" }, "it stands still")
	p.signal(syscall.SIGTERM)
	require.Equal(t, 3, p.wait())
	nothingLeft(t, name)
}

// report P2
func TestACommandReadsTheTerminal(t *testing.T) {
	t.Parallel()
	const reads = `sh -c 'echo up $$; read x; echo read $x'`
	for what, c := range map[string]struct {
		under string
		fg    bool
	}{
		"in the foreground":           {"etcdlock lock %s -- " + reads, false},
		"from a script":               {`bash -c 'etcdlock lock "$0" -- sh -c "echo up \$\$; read x; echo read \$x"' %s`, false},
		"in a pipe":                   {"etcdlock lock %s -- " + reads + " | cat", false},
		"in the background, until fg": {"etcdlock lock %s -- " + reads + " &", true},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			d := sitDown(t)
			d.line(fmt.Sprintf(c.under, strings.ReplaceAll(nameOf(t), " ", "-")))
			pid := d.command()
			if c.fg {
				d.eventually(parentOf(t, pid), "T")
				require.NoError(t, d.Stopped(long))
				d.line("fg")
			}
			d.line("hello")
			d.shows("read hello")
			d.prompt()
		})
	}
}

// report P2
func TestAnInterruptEndsTheLoopOfTheShell(t *testing.T) {
	t.Parallel()
	d, name := sitDown(t), nameOf(t)
	d.line("while :; do etcdlock lock " + name + " -- " + busy + "; done")
	pid := d.command()
	d.types(pty.Interrupt)
	d.prompt()
	require.True(t, dead(pid))
}

// report P2
func TestAWaitStopsAndContinues(t *testing.T) {
	t.Parallel()
	d, name := sitDown(t), nameOf(t)
	p := start(t, "lock", name, "--", "sh", "-c", "echo ready; read go < "+fifo(t))
	p.says("ready")
	d.line("etcdlock lock " + name + " -- " + busy)
	eventually(t, func() bool { return len(keysOf(t, name)) == 2 }, "it waits")
	d.types(pty.Suspend)
	d.shows("Stopped")
	d.prompt()
	d.line("fg")
	openFifo(t)
	pid := d.command()
	d.types(pty.Interrupt)
	d.prompt()
	require.True(t, dead(pid))
}

// A process that calls vfork cannot be stopped until the new process has begun. Here the new process
// waits for a lease of its file.
//
// report P2
func TestAStopInTheMiddleOfAVforkIsNoticed(t *testing.T) {
	t.Parallel()
	slow := filepath.Join(t.TempDir(), "slow")
	copyFile(t, "/bin/true", slow)
	f, err := os.OpenFile(slow, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skipf("no leases of files here: %v", err)
	}
	d := sitDown(t)
	d.line("etcdlock lock " + nameOf(t) + " -- sh -c 'echo up $$; " + slow + "; echo begun; sleep 1000'")
	pid := d.command()
	eventually(t, func() bool { return stateOf(pid) == "D" }, "it waits in a vfork")
	d.types(pty.Suspend)
	d.shows("Stopped")
	d.prompt()
	d.line("fg")
	require.NoError(t, d.Foreground(long))
	require.NoError(t, f.Close())
	d.shows("begun")
	d.types(pty.Interrupt)
	d.prompt()
	require.True(t, dead(pid))
}
