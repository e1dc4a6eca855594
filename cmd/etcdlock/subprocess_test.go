//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/cmd/etcdlock/internal/child"
)

// process is a running etcdlock. The environment of etcdlock, its guard and its command has the mark.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	mark   string
	lines  chan string
	out    safeBuffer
	stderr safeBuffer
	ended  chan struct{}
	code   int
}

// start starts etcdlock on the etcd of the tests.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	return startOn(t, dev.endpoint, args...)
}

func startOn(t *testing.T, endpoint string, args ...string) *process {
	t.Helper()
	return startFile(t, os.Args[0], endpoint, args...)
}

// startFile starts the etcdlock in a file.
func startFile(t *testing.T, file, endpoint string, args ...string) *process {
	t.Helper()
	p := &process{t: t, lines: make(chan string, 1000), ended: make(chan struct{})}
	p.mark = fmt.Sprintf("ETCDLOCK_TEST_MARK=%s-%d", t.Name(), time.Now().UnixNano())
	p.cmd = exec.Command(file, args...)
	p.cmd.Env = append(os.Environ(), asCommand+"=1", noSleep, p.mark, "ETCDCTL_ENDPOINTS="+endpoint)
	p.cmd.SysProcAttr = endWithTests()
	p.cmd.Stderr = &p.stderr
	p.cmd.WaitDelay = 10 * time.Second // for a process that is left with its stderr
	r, w, err := os.Pipe()
	require.NoError(t, err)
	p.cmd.Stdout = w
	require.NoError(t, p.cmd.Start())
	require.NoError(t, w.Close())
	go func() {
		defer r.Close()
		defer close(p.lines)
		for s := bufio.NewScanner(r); s.Scan(); {
			_, _ = p.out.Write(append(s.Bytes(), '\n'))
			p.lines <- s.Text()
		}
	}()
	go func() {
		_ = p.cmd.Wait()
		p.code = p.cmd.ProcessState.ExitCode()
		close(p.ended)
	}()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("left: %v", p.family())
		}
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
		_ = p.cmd.Process.Kill()
		<-p.ended
		for pid := range p.family() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if t.Failed() {
			t.Logf("%v:\n%s%s", args, &p.out, &p.stderr)
		}
	})
	return p
}

// endWithTests ends processes with the test program, however that ends.
func endWithTests() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// runToEnd runs etcdlock to its end.
func runToEnd(t *testing.T, args ...string) *process {
	t.Helper()
	p := start(t, args...)
	p.wait()
	p.output()
	return p
}

// soon stands for a timeout in the arguments of runInTime.
const soon = "SOON"

// runInTime runs etcdlock to its end, with a timeout in which it reaches etcd. The timeout is longer on
// a busy machine.
func runInTime(t *testing.T, args ...string) (p *process, timeout string) {
	t.Helper()
	for within := 300 * time.Millisecond; ; within *= 4 {
		given := slices.Clone(args)
		for i, arg := range given {
			if arg == soon {
				given[i] = within.String()
			}
		}
		p = runToEnd(t, given...)
		if p.code != exitUnreachable || !slices.Contains(args, soon) || within > long {
			return p, within.String()
		}
	}
}

// output waits until etcdlock and its command have closed their output, and returns all of it.
func (p *process) output() string {
	p.t.Helper()
	for late := time.After(2 * long); ; {
		select {
		case _, ok := <-p.lines:
			if !ok {
				return p.out.String()
			}
		case <-late:
			require.FailNow(p.t, "its output does not end", "%v", p.family())
		}
	}
}

// wait waits for the end, and returns the exit code.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.code
	case <-time.After(2 * long):
		require.FailNow(p.t, "etcdlock does not end", "%v\n%s%s", p.cmd.Args, &p.out, &p.stderr)
		return -1
	}
}

// says waits for a line of output with a prefix, and returns the rest of the line.
func (p *process) says(prefix string) string {
	p.t.Helper()
	deadline := time.After(long)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				require.FailNow(p.t, "not said: "+prefix, "%s%s", &p.out, &p.stderr)
			}
			if rest, ok := strings.CutPrefix(line, prefix); ok {
				return rest
			}
		case <-deadline:
			require.FailNow(p.t, "not said in time: "+prefix, "%s%s", &p.out, &p.stderr)
		}
	}
}

// pid waits for a line with the number of a process.
func (p *process) pid(prefix string) int {
	p.t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(p.says(prefix)))
	require.NoError(p.t, err)
	return pid
}

func (p *process) signal(sig os.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(sig))
}

// family returns the processes that are left of an etcdlock: itself, its guard, its command and the
// processes below the command.
func (p *process) family() map[int]string {
	found := make(map[int]string)
	dirs, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(p.t, err)
	for _, dir := range dirs {
		env, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil || !bytes.Contains(env, []byte(p.mark+"\x00")) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		args, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		if dead(pid) {
			continue
		}
		found[pid] = strings.ReplaceAll(string(args), "\x00", " ")
	}
	return found
}

// guard is the number of its guard process. It is 0 until there is one that is ready.
func (p *process) guard() int {
	p.t.Helper()
	for pid, args := range p.family() {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil || !strings.Contains(args, child.GuardCommand) {
			continue
		}
		_, after, _ := strings.Cut(string(status), "SigIgn:")
		mask, _ := strconv.ParseUint(strings.Fields(after)[0], 16, 64)
		if mask&(1<<(syscall.SIGTSTP-1)) != 0 { // the last one that it begins to ignore
			return pid
		}
	}
	return 0
}

// noProcessLeft waits until no process is left.
func (p *process) noProcessLeft() {
	p.t.Helper()
	eventually(p.t, func() bool { return len(p.family()) == 0 }, "no process is left")
}

// dead reports whether a process has ended.
func dead(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	return len(fields) == 0 || fields[0] == "Z" || fields[0] == "X"
}

// dies waits for the end of a process.
func dies(t *testing.T, pid int) {
	t.Helper()
	eventually(t, func() bool { return dead(pid) }, "it ends")
}
