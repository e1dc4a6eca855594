// Package programtest lets the tests of an example run it as the process that
// it is. The test binary plays the program, so nothing is built twice, and
// with -race the program is checked too.
package programtest

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

// limit bounds each wait. It is met only when something is broken.
const limit = 5 * time.Minute

// play in the environment makes the test binary the program.
const play = "ETCDLOCK_EXAMPLES_PLAY"

// Main is the TestMain of an example with the main function program.
func Main(m *testing.M, program func()) {
	if os.Getenv(play) != "" {
		program()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Process is a running program.
type Process struct {
	t       *testing.T
	cmd     *exec.Cmd
	temp    string
	lines   chan string
	told    strings.Builder // standard output so far
	errors  bytes.Buffer    // standard error; read after drained
	drained chan struct{}   // closed when no process can write to standard error any more
}

// Start starts the program. It is killed at the end of the test if it still
// runs then.
func Start(t *testing.T, args ...string) *Process {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("ends programs with signals, which Windows does not have")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &Process{
		t:       t,
		cmd:     exec.Command(self, args...),
		temp:    t.TempDir(),
		lines:   make(chan string),
		drained: make(chan struct{}),
	}
	p.cmd.Env = append(os.Environ(), play+"=1", "TMPDIR="+p.temp,
		"GORACE=atexit_sleep_ms=0") // with -race each exit would take a second
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	t.Cleanup(func() {
		close(over)
		_ = p.cmd.Process.Kill() // fails when it has ended already
		_ = p.cmd.Wait()
	})
	go func() {
		defer close(p.lines)
		for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
			select {
			case p.lines <- scanner.Text():
			case <-over:
				return
			}
		}
	}()
	go func() {
		defer close(p.drained)
		_, _ = io.Copy(&p.errors, stderr) // ends with the pipe
	}()
	return p
}

// Await returns when the program has printed a line with each of the texts in
// it, in this order.
func (p *Process) Await(texts ...string) {
	p.t.Helper()
	timeout := time.After(limit)
	for _, text := range texts {
		for found := false; !found; {
			select {
			case line, open := <-p.lines:
				if !open {
					p.t.Fatalf("ended without printing %q\n%s", text, p.all())
				}
				p.told.WriteString(line + "\n")
				found = strings.Contains(line, text)
			case <-timeout:
				p.t.Fatalf("does not print %q\n%s", text, &p.told)
			}
		}
	}
}

// Signal sends a signal to the program.
func (p *Process) Signal(signal os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		p.t.Fatal(err)
	}
}

// Exit waits until the program has ended, and every process that it started
// has too. It returns the exit code (-1 when it was killed) and all it printed.
func (p *Process) Exit() (code int, output string) {
	p.t.Helper()
	timeout := time.After(limit)
	for open := true; open; {
		var line string
		select {
		case line, open = <-p.lines:
			if open {
				p.told.WriteString(line + "\n")
			}
		case <-timeout:
			p.t.Fatalf("does not end\n%s", &p.told)
		}
	}
	select {
	case <-p.drained:
	case <-timeout:
		p.t.Fatalf("left a process behind\n%s", &p.told)
	}
	var exit *exec.ExitError
	if err := p.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode(), p.all()
}

// LeavesNothing fails the test when something is left of the temporary files.
func (p *Process) LeavesNothing() {
	p.t.Helper()
	left, err := os.ReadDir(p.temp)
	if err != nil {
		p.t.Fatal(err)
	}
	if len(left) != 0 {
		p.t.Errorf("left behind: %v", left)
	}
}

// all is what the program has printed on both ways.
func (p *Process) all() string {
	select {
	case <-p.drained:
		return p.told.String() + p.errors.String()
	case <-time.After(limit):
		return p.told.String() + "(it goes on writing to standard error)"
	}
}
