//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package child

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Process is a command that runs in a process group of its own.
type Process struct {
	args   []string
	path   string
	pipes  *starterPipes // to the starter, which becomes the command
	guard  *guard
	job    job
	exited chan struct{}      // closed when it has ended, and has not been reaped
	reap   chan struct{}      // closed to have it reaped
	reaped chan struct{}      // closed when it has been
	status syscall.WaitStatus // read after reaped
	once   sync.Once
}

// Prepare finds a command, and starts a process that becomes it with Go, and the guard for
// it. So the guard knows what to kill before the command can start anything, and nothing has
// to be waited for once it may run. What was prepared has to be ended by End.
func Prepare(args []string) (*Process, error) {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return nil, err
	}
	pipes, err := newStarterPipes()
	if err != nil {
		return nil, err
	}
	g, err := startGuard()
	if err != nil {
		pipes.close()
		return nil, fmt.Errorf("start the guard: %w", err)
	}
	p := &Process{
		args: args, path: path, pipes: pipes, guard: g, job: job{done: make(chan struct{})},
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

// Go lets the command run, with the environment of this process and env, and with the descriptors
// that this process was started with, until the guard ends it at until, by Now.
func (p *Process) Go(env []string, until time.Duration) error {
	p.guard.extend(until)
	p.job.begin()
	return p.pipes.start(order{Path: p.path, Args: p.args, Env: append(os.Environ(), env...)})
}

// run starts the process, and reaps it. All from one thread: the kernel ends the command
// with the thread that has started it.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread() // and never unlocked
	pid, err := p.pipes.fork()
	p.job.pgid = pid
	started <- err
	if err != nil {
		return
	}
	for ended := false; !ended; {
		change := awaitChange(pid)
		switch {
		case change.ended:
			ended = true
		case change.continued:
			p.job.commandContinued()
		default:
			p.job.commandStopped(change.stopped)
		}
	}
	// As long as it is not reaped, its number, and so its group's, is no other process's.
	close(p.exited)
	<-p.reap
	for {
		if _, err := syscall.Wait4(pid, &p.status, 0, nil); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	own.reaped(pid)
	close(p.reaped)
}

// Pid is the number of the process, and of its group.
func (p *Process) Pid() int { return p.job.pgid }

// Exited is closed when the command has ended. Others of its group may run on until End.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Extend moves the time, by Now, at which the guard ends the command.
func (p *Process) Extend(until time.Duration) { p.guard.extend(until) }

// Signal passes a signal to the command and all of its group. One that asks for an end also
// continues a command that was stopped, so that it can heed it.
func (p *Process) Signal(sig syscall.Signal) {
	switch sig {
	case syscall.SIGTSTP:
		p.job.stopAsked()
	case syscall.SIGCONT:
		p.job.jobContinued()
	case syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT:
		p.kill(sig)
		p.kill(syscall.SIGCONT)
	default:
		p.kill(sig)
	}
}

// kill signals the group. To one that has ended it matters no more.
func (p *Process) kill(sig syscall.Signal) { _ = syscall.Kill(-p.Pid(), sig) }

// End kills whatever is left of the group, waits until all of it and the guard are gone, and
// returns the command's exit code. That is a shell's: 128 and the signal's number for a command
// that died of a signal.
func (p *Process) End() int {
	p.once.Do(func() {
		p.kill(syscall.SIGKILL)
		<-p.exited
		p.kill(syscall.SIGKILL) // what was started meanwhile
		awaitGroup(p.Pid())
		p.job.end()
		p.guard.done() // before the number can become another process's
		close(p.reap)
		<-p.reaped
		p.pipes.close()
	})
	if p.status.Signaled() {
		return 128 + int(p.status.Signal())
	}
	return p.status.ExitStatus()
}

// Interrupted tells whether the command died of SIGINT. It is called after End.
func (p *Process) Interrupted() bool {
	return p.status.Signaled() && p.status.Signal() == syscall.SIGINT
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

// DieOfInterrupt ends this process by SIGINT, as the shell expects of one whose command was
// interrupted: it ends its loop or script then, too. It returns if that cannot be.
func DieOfInterrupt() {
	signal.Reset(syscall.SIGINT)
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err == nil {
		time.Sleep(100 * time.Millisecond) // process 1 does not die of it
	}
}
