//go:build linux

// Package beside observes how a command fares under "etcdlock lock", and under others that run a
// command in the same way: flock(1), timeout(1) and etcdctl lock. Its table is in docs/command.md.
package beside

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/etcdlock/etcdlock/cmd/etcdlock/internal/pty"
)

// Wrapper is a program that runs a command.
type Wrapper struct {
	Name string
	// Args returns the arguments up to the command, beginning with the path of the program. name is
	// the name of the lock, and the path of a file that can be locked.
	Args func(name string) []string
	// Env has further variables for the wrapper.
	Env []string
	// Locks is true for a wrapper that holds a lock.
	Locks bool
}

// Behaviour is an observation that is made of each wrapper.
type Behaviour struct {
	What string
	Of   func(t *Trial) (string, error)
	Want string // the result of etcdlock lock
}

// TTL is the TTL of the wrappers that have one.
const TTL = 3 * time.Second

// enough bounds the wait for an event that should happen.
const enough = time.Minute

// none bounds the wait for an event that should not happen.
const none = 20 * time.Second

// Observe observes one behaviour of a wrapper. The directory is empty, and is left to the caller.
func Observe(ctx context.Context, w *Wrapper, b *Behaviour, dir string) (string, error) {
	t := &Trial{Wrapper: w, ctx: ctx, dir: dir, name: filepath.Join(dir, "lock-"+strconv.FormatInt(serial.Add(1), 10))}
	defer t.end()
	cell, err := b.Of(t)
	if err != nil {
		return "", fmt.Errorf("%s: %s: %w", w.Name, b.What, err)
	}
	return cell, nil
}

var serial atomic.Int64

// Trial is one observation.
type Trial struct {
	*Wrapper
	ctx  context.Context
	dir  string
	name string // of the lock
	kill []int  // processes that may be left at the end
	stop []func()
}

// line is a command under the wrapper, for a shell.
func (t *Trial) line(command string) string {
	var quoted []string
	for _, a := range t.Args(t.name) {
		quoted = append(quoted, "'"+a+"'")
	}
	return strings.Join(quoted, " ") + " " + command
}

// env is the environment of the wrapper.
func (t *Trial) env() []string { return append(os.Environ(), t.Env...) }

// shell is a script in which the wrapper can be used by line, and ends with the trial.
func (t *Trial) shell(script string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(t.ctx, 2*enough)
	t.stop = append(t.stop, cancel)
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Env, cmd.Dir = t.env(), t.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	return cmd
}

// start starts a wrapper, and its command first prints "up" and its number. It returns the process of the
// wrapper.
func (t *Trial) start(command string) (wrapper *exec.Cmd, pid int, err error) {
	out := filepath.Join(t.dir, "out-"+strconv.FormatInt(serial.Add(1), 10))
	cmd := t.shell("exec " + t.line(command) + " > " + out)
	if err := cmd.Start(); err != nil {
		return nil, 0, err
	}
	t.kill = append(t.kill, cmd.Process.Pid)
	err = until(enough, "the command runs", func() bool {
		text, _ := os.ReadFile(out)
		n, _ := fmt.Sscanf(string(text), "up %d\n", &pid)
		return n == 1
	})
	t.kill = append(t.kill, pid)
	return cmd, pid, err
}

// end kills the processes that are left.
func (t *Trial) end() {
	for _, stop := range t.stop {
		stop()
	}
	for _, pid := range t.kill {
		if pid > 1 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// desk is a shell on a terminal.
func (t *Trial) desk() (*pty.Shell, error) {
	return pty.Start(append(t.Env, "PATH="+os.Getenv("PATH"))...)
}

// seat starts a command under the wrapper at a terminal, and returns its number.
func (t *Trial) seat(s *pty.Shell, line string) (pid int, err error) {
	if err := s.Line(line); err != nil {
		return 0, err
	}
	groups, err := s.Expect(`up (\d+)\r\n`, enough)
	if err != nil {
		return 0, err
	}
	pid, err = strconv.Atoi(groups[0])
	t.kill = append(t.kill, pid)
	return pid, err
}

// until waits until a condition is true.
func until(within time.Duration, what string, so func() bool) error {
	for late := time.Now().Add(within); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(late) {
			return fmt.Errorf("within %v it is not so that %s", within, what)
		}
	}
	return nil
}

// happens reports whether a condition soon becomes true.
func happens(so func() bool) bool { return until(none, "", so) == nil }

// state returns the state of a process, as ps shows it, and its parent. The state is empty if there is
// no process.
func state(pid int) (letter string, parent int) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	parent, _ = strconv.Atoi(fields[1])
	return fields[0], parent
}

func dead(pid int) bool {
	letter, _ := state(pid)
	return letter == "" || letter == "Z" || letter == "X"
}

func stopped(pid int) bool {
	letter, _ := state(pid)
	return letter == "T"
}

// LeaveMake removes the variables of the make that has started this program, as in "make test".
// Otherwise a make below this program would share its jobs and take over its options. Of these, -O
// hides which jobs run at the same time.
func LeaveMake() {
	for _, name := range []string{"MAKEFLAGS", "MFLAGS", "GNUMAKEFLAGS", "MAKEOVERRIDES", "MAKEFILES", "MAKELEVEL", "MAKE_TERMOUT", "MAKE_TERMERR"} {
		_ = os.Unsetenv(name)
	}
}

// HearSignals lets processes below this program receive SIGINT and SIGHUP, even if the caller of this
// program ignores them. A shell ignores them for background jobs, and so does nohup.
func HearSignals() {
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGHUP} {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig) // ignored by this process as before, but not by processes that it starts
		}
	}
}

// AsSubreaper is the variable that makes this program a subreaper, which gets orphans like process 1,
// and then the command of its arguments.
const AsSubreaper = "ETCDLOCK_SUBREAPER"

// Subreap becomes the command if the variable AsSubreaper is set. It must be called first.
func Subreap() {
	if os.Getenv(AsSubreaper) == "" {
		return
	}
	err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	if err == nil {
		_ = os.Unsetenv(AsSubreaper)
		err = syscall.Exec(os.Args[1], os.Args[1:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, "become a subreaper:", err)
	os.Exit(1)
}
