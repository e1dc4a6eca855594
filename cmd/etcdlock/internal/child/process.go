//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package child

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a command that runs in a process group of its own.
type Process struct {
	cmd    *exec.Cmd
	guard  *guard
	exited chan struct{} // closed when it has ended, and has not been reaped
	reap   chan struct{} // closed to have it reaped
	reaped chan struct{} // closed when it has been
	once   sync.Once
}

// Start starts a command, with the environment of this process and env, and standard
// input, output and error of this process; and the guard that ends it at until, by Now.
// If this process is in the foreground of a terminal, the command is then.
func Start(args []string, env []string, until time.Duration) (*Process, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
	if inForeground() {
		cmd.SysProcAttr.Foreground, cmd.SysProcAttr.Ctty = true, int(os.Stdin.Fd())
	}
	g, err := startGuard(until)
	if err != nil {
		return nil, fmt.Errorf("start the guard: %w", err)
	}
	p := &Process{cmd: cmd, guard: g, exited: make(chan struct{}), reap: make(chan struct{}), reaped: make(chan struct{})}
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		g.done()
		return nil, err
	}
	g.watch(cmd.Process.Pid)
	return p, nil
}

// run starts the command, and reaps it. All from one thread: the kernel ends the command
// with the thread that has started it.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread() // and never unlocked
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	// As long as it is not reaped, its number, and so its group's, is nobody else's.
	awaitExit(p.cmd.Process.Pid)
	close(p.exited)
	<-p.reap
	_ = p.cmd.Wait() // its result is in ProcessState
	close(p.reaped)
}

// Pid is the number of the process, and of its group.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Exited is closed when the command has ended. Others of its group may run on until End.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Extend moves the time, by Now, at which the guard ends the command.
func (p *Process) Extend(until time.Duration) { p.guard.extend(until) }

// Signal sends a signal to the command and all of its group.
func (p *Process) Signal(sig syscall.Signal) {
	_ = syscall.Kill(-p.Pid(), sig) // to a group that has ended it matters no more
}

// End kills whatever is left of the group, waits until all of it and the guard are gone,
// and returns the command's exit code: that of a shell, with 128 and the signal's number for
// one who died of it.
func (p *Process) End() int {
	p.once.Do(func() {
		p.Signal(syscall.SIGKILL)
		<-p.exited
		p.Signal(syscall.SIGKILL) // whoever was started meanwhile
		awaitGroup(p.Pid())
		p.guard.done() // before the number can become somebody else's
		close(p.reap)
		<-p.reaped
		if p.cmd.SysProcAttr.Foreground {
			takeForeground()
		}
	})
	state := p.cmd.ProcessState
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}

// awaitGroup waits until none of a group that was killed is left but its leader, which is
// not reaped yet. The kernel takes a moment for it, and longer for one in the middle of
// I/O; whoever cannot die at all is not waited for for ever.
func awaitGroup(pgid int) {
	for wait := time.Millisecond; wait < 2*time.Second; wait *= 2 {
		if !othersIn(pgid) {
			return
		}
		time.Sleep(wait)
	}
}

// inForeground tells whether standard input is a terminal in whose foreground this process
// is.
func inForeground() bool {
	pgid, err := unix.IoctlGetInt(int(os.Stdin.Fd()), unix.TIOCGPGRP)
	return err == nil && pgid == unix.Getpgrp()
}

// ErrNotFound tells a command that is not there from one that cannot be started.
func ErrNotFound(err error) bool {
	return errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist)
}
