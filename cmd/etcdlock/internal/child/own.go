//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package child

import (
	"bytes"
	"os/exec"
	"sync"
)

// processes is the set of children that this process has started and waits for. ReapOrphans must not
// reap them.
type processes struct {
	mu   sync.Mutex // held while a process is started, so that each child is known before it can end
	pids map[int]bool
}

var own = processes{pids: make(map[int]bool)}

// start starts a process by f.
func (p *processes) start(f func() (pid int, err error)) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pid, err := f()
	if err == nil {
		p.pids[pid] = true
	}
	return pid, err
}

// reaped forgets a process that was waited for.
func (p *processes) reaped(pid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pids, pid)
}

// Start starts a process beside the command. The caller must call Wait.
func Start(cmd *exec.Cmd) error {
	_, err := own.start(func() (int, error) {
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		return cmd.Process.Pid, nil
	})
	return err
}

// Wait waits for a process that Start has started.
func Wait(cmd *exec.Cmd) error {
	defer own.reaped(cmd.Process.Pid)
	return cmd.Wait()
}

// CombinedOutput runs a process beside the command to its end, and returns its output and errors.
func CombinedOutput(cmd *exec.Cmd) ([]byte, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := Start(cmd); err != nil {
		return nil, err
	}
	err := Wait(cmd)
	return out.Bytes(), err
}
