package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// cast starts the processes of the demo, and ends them all on every way out.
type cast struct {
	etcd     string // endpoint
	resource string // URL
	members  []*actor
}

// actor is one process, as the parent sees it.
type actor struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	events chan event
	gone   chan struct{} // closed when the process has ended
	err    error         // why it ended; read after gone
}

// start starts this very program again in a role. The process reports and is
// commanded as event.go says.
func (c *cast) start(role, name string) (*actor, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	a := &actor{
		name: name,
		cmd:  exec.Command(self, role, name, c.etcd, c.resource),
		// No process reports more than this, so none waits for a reader.
		events: make(chan event, 64),
		gone:   make(chan struct{}),
	}
	a.cmd.Stderr = os.Stderr
	a.cmd.SysProcAttr = ownGroup()
	// The process ends when its standard input does: also when this program is
	// killed and can do nothing about it.
	if a.stdin, err = a.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := a.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := a.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	c.members = append(c.members, a)
	go a.listen(stdout)
	return a, nil
}

func (a *actor) listen(stdout io.Reader) {
	defer close(a.gone)
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			e = event{Kind: failed, Reason: fmt.Sprintf("said %q", lines.Text())}
		}
		a.events <- e
	}
	a.err = a.cmd.Wait() // only after the last line was read
}

// expect returns the next event, which must be of one of the kinds.
func (a *actor) expect(ctx context.Context, kinds ...string) (event, error) {
	select {
	case e := <-a.events:
		return a.check(e, kinds)
	case <-ctx.Done():
		return event{}, fmt.Errorf("waiting for %s to say %s: %w", a.name, either(kinds), context.Cause(ctx))
	case <-a.gone:
	}
	select {
	case e := <-a.events: // its last words
		return a.check(e, kinds)
	default:
		return event{}, fmt.Errorf("%s ended (%v) instead of saying %s", a.name, a.cmd.ProcessState, either(kinds))
	}
}

func (a *actor) check(e event, kinds []string) (event, error) {
	if slices.Contains(kinds, e.Kind) {
		return e, nil
	}
	what := e.Kind
	if e.Reason != "" {
		what += " (" + e.Reason + ")"
	}
	return e, fmt.Errorf("%s says %s instead of %s", a.name, what, either(kinds))
}

func either(kinds []string) string { return strings.Join(kinds, " or ") }

// command sends one command.
func (a *actor) command(command string) error {
	if _, err := io.WriteString(a.stdin, command+"\n"); err != nil {
		return fmt.Errorf("tell %s to %s: %w", a.name, command, err)
	}
	return nil
}

func (a *actor) pid() int { return a.cmd.Process.Pid }

// signal sends a signal: kill, terminate, suspend or resume.
func (a *actor) signal(signal os.Signal) error {
	if err := a.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("%v to %s: %w", signal, a.name, err)
	}
	return nil
}

// wait returns when the process has ended, with how it ended.
func (a *actor) wait(ctx context.Context) error {
	select {
	case <-a.gone:
		return a.err
	case <-ctx.Done():
		return fmt.Errorf("waiting for %s to end: %w", a.name, context.Cause(ctx))
	}
}

// dismiss ends processes in order: they are told to terminate, and must exit
// with 0.
func dismiss(ctx context.Context, actors ...*actor) error {
	var errs []error
	for _, a := range actors {
		if err := a.signal(terminate); err != nil {
			errs = append(errs, err)
		}
	}
	for _, a := range actors {
		if err := a.wait(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", a.name, err))
		}
	}
	return errors.Join(errs...)
}

// kill ends every process that is still there, also a suspended one, and waits
// until they are gone.
func (c *cast) kill() {
	for _, a := range c.members {
		_ = a.signal(os.Kill) // fails for an ended process
	}
	for _, a := range c.members {
		<-a.gone
	}
}
