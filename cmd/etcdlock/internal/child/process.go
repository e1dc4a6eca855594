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
	cmd    *exec.Cmd // the starter, which becomes the command
	args   []string
	path   string
	pipes  *starterPipes
	guard  *guard
	front  bool          // the command has the terminal
	exited chan struct{} // closed when it has ended, and has not been reaped
	reap   chan struct{} // closed to have it reaped
	reaped chan struct{} // closed when it has been
	once   sync.Once
}

// Prepare finds a command, and starts a process that becomes it with Go, and the guard for
// it. So the guard knows whom to end before the command can start anything, and nothing has
// to be waited for once it may run. What was prepared has to be ended by End.
func Prepare(args []string) (*Process, error) {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	pipes, err := newStarterPipes()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, StarterCommand)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = pipes.theirs()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
	g, err := startGuard()
	if err != nil {
		pipes.close()
		return nil, fmt.Errorf("start the guard: %w", err)
	}
	p := &Process{
		cmd: cmd, args: args, path: path, pipes: pipes, guard: g,
		exited: make(chan struct{}), reap: make(chan struct{}), reaped: make(chan struct{}),
	}
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		pipes.close()
		g.done()
		return nil, err
	}
	pipes.closeTheirs()
	g.watch(p.Pid())
	return p, nil
}

// Go lets the command run, with the environment of this process and env, and standard
// input, output and error of this process, until the guard ends it at until, by Now. If
// this process is in the foreground of a terminal, the command is then.
func (p *Process) Go(env []string, until time.Duration) error {
	p.guard.extend(until)
	if inForeground() {
		p.front = true
		setForeground(p.Pid())
	}
	return p.pipes.start(order{Path: p.path, Args: p.args, Env: append(os.Environ(), env...)})
}

// run starts the process, and reaps it. All from one thread: the kernel ends the command
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
		p.pipes.close()
		if p.front {
			setForeground(unix.Getpgrp())
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

// ErrNotFound tells a command that is not there from one that cannot be started.
func ErrNotFound(err error) bool {
	return errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist)
}
