package cluster

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Holder is a running holder process.
type Holder struct {
	t       *testing.T
	cmd     *exec.Cmd
	Stdin   io.Closer
	Reports <-chan Report
	errors  bytes.Buffer
	waited  chan error
}

// Start runs a holder process, which ends with the test at the latest. Its way to
// etcd is TCP through a proxy, as the members listen on unix sockets.
func (f *Fixture) Start(set HolderSettings) *Holder {
	f.t.Helper()
	set.Endpoints = f.Proxy().Endpoints()
	exe, err := os.Executable()
	require.NoError(f.t, err)
	h := &Holder{t: f.t, cmd: exec.Command(exe), waited: make(chan error, 1)}
	h.cmd.Env, err = set.environ()
	require.NoError(f.t, err)
	h.cmd.Stderr = &h.errors
	h.Stdin, err = h.cmd.StdinPipe()
	require.NoError(f.t, err)
	stdout, err := h.cmd.StdoutPipe()
	require.NoError(f.t, err)
	require.NoError(f.t, h.cmd.Start())

	reports := make(chan Report, 10)
	h.Reports = reports
	go func() {
		lines := json.NewDecoder(stdout)
		for {
			var r Report
			if lines.Decode(&r) != nil {
				break // the process ended
			}
			reports <- r
		}
		h.waited <- h.cmd.Wait()
	}()
	f.t.Cleanup(h.End)
	return h
}

// End ends the process in any case; it is not an error if it ended before.
func (h *Holder) End() {
	_ = h.cmd.Process.Kill()
	select {
	case err := <-h.waited:
		h.waited <- err
	case <-time.After(Long):
		h.t.Error("a holder process did not end")
	}
	if h.t.Failed() {
		h.t.Logf("a holder's stderr: %s", h.errors.String())
	}
}

func (h *Holder) Signal(s syscall.Signal) {
	h.t.Helper()
	require.NoError(h.t, h.cmd.Process.Signal(s))
}

func (h *Holder) Next(event string) Report {
	h.t.Helper()
	r := Receive(h.t, h.Reports, "report "+event)
	require.Equal(h.t, event, r.Event, "%+v", r)
	return r
}

// Kill ends the process as a crash would.
func (h *Holder) Kill() error { return h.cmd.Process.Kill() }

// Quit lets the process release and end in order.
func (h *Holder) Quit() {
	h.t.Helper()
	require.NoError(h.t, h.Stdin.Close())
	h.Next("released")
	err := Receive(h.t, h.waited, "the process's end")
	h.waited <- err
	require.NoError(h.t, err)
}

// Exited waits for the process's end, and returns its code.
func (h *Holder) Exited() int {
	h.t.Helper()
	err := Receive(h.t, h.waited, "the process's end")
	h.waited <- err
	var exit *exec.ExitError
	if err != nil {
		require.ErrorAs(h.t, err, &exit)
	}
	return h.cmd.ProcessState.ExitCode()
}
