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

// Prepare finds a command, and starts its guard and a process that becomes the command in Go. The
// guard thus knows the process group before the command can start anything, and Go need not wait.
// The caller must call End.
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

// Go runs the command with the environment of this process and env, and with the descriptors that
// this process was started with. The guard ends the command at until, by Now.
func (p *Process) Go(env []string, until time.Duration) error {
	p.guard.extend(until)
	p.job.begin()
	return p.pipes.start(order{Path: p.path, Args: p.args, Env: append(os.Environ(), env...)})
}

// run starts the process and reaps it, in one thread, because the kernel ends the command with the
// thread that started it.
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
	// Until it is reaped, the kernel gives the number of the process and its group to no other process.
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

// Signal passes a signal to the command's group. A signal that asks for an end also continues a
// stopped command, so that the command can react.
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

// kill signals the group. An error means that the group has ended, and is ignored.
func (p *Process) kill(sig syscall.Signal) { _ = syscall.Kill(-p.Pid(), sig) }

// End kills the rest of the group, waits until the group and the guard are gone, and returns the
// command's exit code. Like a shell's, it is 128 plus the number of the signal that ended the
// command.
func (p *Process) End() int {
	p.once.Do(func() {
		p.kill(syscall.SIGKILL)
		<-p.exited
		p.kill(syscall.SIGKILL) // processes that were started during the first kill
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

// Interrupted reports whether the command died of SIGINT. It is called after End.
func (p *Process) Interrupted() bool {
	return p.status.Signaled() && p.status.Signal() == syscall.SIGINT
}

// awaitGroup waits until only the leader is left of a group that was killed. The leader is not reaped
// yet. The kernel may need time, above all for a process in the middle of I/O. The wait ends after
// about two seconds even if a process cannot die.
func awaitGroup(pgid int) {
	for wait := time.Millisecond; wait < 2*time.Second; wait *= 2 {
		if !othersIn(pgid) {
			return
		}
		time.Sleep(wait)
	}
}

// ErrNotFound reports whether an error of Prepare means that the command does not exist.
func ErrNotFound(err error) bool {
	return errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist)
}

// DieOfInterrupt ends this process by SIGINT, so that a shell also ends its loop or script. It returns
// if the process does not die of it.
func DieOfInterrupt() {
	signal.Reset(syscall.SIGINT)
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err == nil {
		time.Sleep(100 * time.Millisecond) // process 1 does not die of it
	}
}
