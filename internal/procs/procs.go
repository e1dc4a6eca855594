// Package procs starts processes and ends them. A program ends the processes that it started,
// whatever happens, and no others.
package procs

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Children are the processes that this program has started. The zero value is ready.
type Children struct {
	mu  sync.Mutex
	all map[*Child]bool
}

// Child is a started process.
type Child struct {
	cmd  *exec.Cmd
	gone chan struct{} // closed when it has ended
	err  error         // why; read after gone
}

// Start starts cmd in a process group of its own, so that a Ctrl-C of the terminal reaches only this
// program, which then ends its children in order. When the process has ended, the rest of its group
// is killed.
func (c *Children) Start(cmd *exec.Cmd) (*Child, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	ownGroup(cmd.SysProcAttr)
	endWithParent(cmd.SysProcAttr)
	if cmd.WaitDelay == 0 {
		cmd.WaitDelay = time.Second // for the rest of the group, which may have its output open
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Child{cmd: cmd, gone: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = map[*Child]bool{}
	}
	c.all[p] = true
	go func() {
		p.err = cmd.Wait()
		killGroup(p) // nothing of it may be left
		close(p.gone)
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.all, p)
	}()
	return p, nil
}

// Talk starts cmd with pipes to its standard input and from its standard output, which the caller
// closes. The output pipe is not that of exec.Cmd, which is closed at the process's end even if it
// has unread output.
func (c *Children) Talk(cmd *exec.Cmd) (p *Child, stdin io.WriteCloser, stdout io.ReadCloser, err error) {
	if stdin, err = cmd.StdinPipe(); err != nil {
		return nil, nil, nil, err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, errors.Join(err, stdin.Close())
	}
	cmd.Stdout = in
	p, err = c.Start(cmd)
	_ = in.Close() // the process has its own descriptor
	if err != nil {
		return nil, nil, nil, errors.Join(err, out.Close())
	}
	return p, stdin, out, nil
}

// Pid is the process's number.
func (p *Child) Pid() int { return p.cmd.Process.Pid }

// Gone is closed when the process has ended.
func (p *Child) Gone() <-chan struct{} { return p.gone }

// Err tells how the process ended; it waits until it has.
func (p *Child) Err() error {
	<-p.gone
	return p.err
}

// Signal sends a signal; an error if the process has ended.
func (p *Child) Signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// End asks the process to end, and makes it after a grace.
func (p *Child) End(sig os.Signal, grace time.Duration) {
	_ = p.Signal(sig) // fails if it has ended
	select {
	case <-p.gone:
		return
	case <-time.After(grace):
	}
	p.Kill()
}

// Kill ends the process and what it started with SIGKILL, and waits until it is gone. A
// process that is stopped ends as well.
func (p *Child) Kill() {
	select {
	case <-p.gone: // its number may belong to another process by now
	default:
		killGroup(p)
		<-p.gone
	}
}

// EndAll kills all children that still run, at the end of the program.
func (c *Children) EndAll() {
	c.mu.Lock()
	var left []*Child
	for p := range c.all {
		left = append(left, p)
	}
	c.mu.Unlock()
	var done sync.WaitGroup
	for _, p := range left {
		done.Go(func() { p.End(syscall.SIGTERM, 3*time.Second) })
	}
	done.Wait()
}
