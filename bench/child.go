package main

import (
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// children are the processes that this program has started. Whatever happens, it
// ends these and no others.
type children struct {
	mu  sync.Mutex
	all map[*child]bool
}

// child is a started process.
type child struct {
	cmd  *exec.Cmd
	gone chan struct{} // closed when it has ended
	err  error         // why; read after gone
}

// start starts cmd in a group of its own, so that a Ctrl-C of the terminal reaches
// this program only, which then ends the others in order.
func (c *children) start(cmd *exec.Cmd) (*child, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	endWithParent(cmd.SysProcAttr)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &child{cmd: cmd, gone: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = map[*child]bool{}
	}
	c.all[p] = true
	go func() {
		p.err = cmd.Wait()
		close(p.gone)
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.all, p)
	}()
	return p, nil
}

// end asks the process to end, and makes it after a grace.
func (p *child) end(sig os.Signal, grace time.Duration) {
	_ = p.cmd.Process.Signal(sig) // fails if it has ended
	select {
	case <-p.gone:
		return
	case <-time.After(grace):
	}
	p.kill()
}

func (p *child) kill() {
	_ = p.cmd.Process.Kill()
	<-p.gone
}

// endAll is the last resort at the end of the program.
func (c *children) endAll() {
	c.mu.Lock()
	var left []*child
	for p := range c.all {
		left = append(left, p)
	}
	c.mu.Unlock()
	var done sync.WaitGroup
	for _, p := range left {
		done.Go(func() { p.end(syscall.SIGTERM, 3*time.Second) })
	}
	done.Wait()
}
