package test

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

	"github.com/etcdlock/etcdlock"
)

// handoverBound is how long after its TTL a dead holder's lock goes to the next
// one: etcd looks for expired leases every 500 ms; the rest is slack for a machine
// under load.
const handoverBound = 600*time.Millisecond + 500*time.Millisecond

// holder is a running holder process.
type holder struct {
	t       *testing.T
	cmd     *exec.Cmd
	stdin   io.Closer
	reports <-chan report
	errors  bytes.Buffer
	waited  chan error
}

// start runs a holder process, which ends with the test at the latest. Its way to
// etcd is TCP through a proxy, as the members listen on unix sockets.
func (f *fixture) start(set holderSettings) *holder {
	f.t.Helper()
	set.Endpoints = f.proxy().Endpoints()
	exe, err := os.Executable()
	require.NoError(f.t, err)
	h := &holder{t: f.t, cmd: exec.Command(exe), waited: make(chan error, 1)}
	h.cmd.Env, err = set.environ()
	require.NoError(f.t, err)
	h.cmd.Stderr = &h.errors
	h.stdin, err = h.cmd.StdinPipe()
	require.NoError(f.t, err)
	stdout, err := h.cmd.StdoutPipe()
	require.NoError(f.t, err)
	require.NoError(f.t, h.cmd.Start())

	reports := make(chan report, 10)
	h.reports = reports
	go func() {
		lines := json.NewDecoder(stdout)
		for {
			var r report
			if lines.Decode(&r) != nil {
				break // the process ended
			}
			reports <- r
		}
		h.waited <- h.cmd.Wait()
	}()
	f.t.Cleanup(h.end)
	return h
}

// end ends the process in any case; it is not an error if it ended before.
func (h *holder) end() {
	_ = h.cmd.Process.Kill()
	select {
	case err := <-h.waited:
		h.waited <- err
	case <-time.After(long):
		h.t.Error("a holder process did not end")
	}
	if h.t.Failed() {
		h.t.Logf("a holder's stderr: %s", h.errors.String())
	}
}

func (h *holder) signal(s syscall.Signal) {
	h.t.Helper()
	require.NoError(h.t, h.cmd.Process.Signal(s))
}

func (h *holder) next(event string) report {
	h.t.Helper()
	r := receive(h.t, h.reports, "report "+event)
	require.Equal(h.t, event, r.Event, "%+v", r)
	return r
}

// quit lets the process release and end in order.
func (h *holder) quit() {
	h.t.Helper()
	require.NoError(h.t, h.stdin.Close())
	h.next("released")
	err := receive(h.t, h.waited, "the process's end")
	h.waited <- err
	require.NoError(h.t, err)
}

func TestTheLockOfAKilledProcessGoesToTheNextOneAfterItsTTL(t *testing.T) {
	f := newFixture(t)
	const ttl = 2 * time.Second
	h := f.start(holderSettings{Lock: "lock", TTL: ttl})
	first := h.next("held")
	next := lockInBackground(f.ctx(), etcdlock.NewMutex(f.session(f.client(), ttl), "lock"))
	f.waitForKeys("lock", 2)
	stillWaiting(t, next, 300*time.Millisecond)

	killed := time.Now()
	h.signal(syscall.SIGKILL)
	second := granted(t, next)
	t.Logf("figure: TTL %v: held again %v after kill -9", ttl, second.at.Sub(killed))
	require.Less(t, second.at.Sub(killed), ttl+handoverBound)
	require.Greater(t, second.handle.Token(), first.Token)
	release(t, second.handle)
}

func TestAnotherProcessLeadsAfterTheLeaderWasKilled(t *testing.T) {
	f := newFixture(t)
	const ttl = 2 * time.Second
	a := f.start(holderSettings{Election: "election", TTL: ttl})
	first := a.next("held")
	b := f.start(holderSettings{Election: "election", TTL: ttl})
	f.waitForKeys("election", 2)
	leaders, _ := f.observe(f.ctx(), etcdlock.NewElection(f.session(f.client(), ttl), "election"))
	require.NotEqual(t, vacancy, nextValue(t, leaders))

	killed := time.Now()
	a.signal(syscall.SIGKILL)
	second := b.next("held")
	t.Logf("figure: TTL %v: next leader %v after kill -9", ttl, second.At.Sub(killed))
	require.Less(t, second.At.Sub(killed), ttl+handoverBound)
	require.Greater(t, second.Token, first.Token)
	require.NotEqual(t, vacancy, nextValue(t, leaders))
	b.quit()
	require.Equal(t, vacancy, nextValue(t, leaders))
}

// Guarantee and non-guarantee in one: the stopped process could not be told in
// time; when it goes on it is told at once, and what it writes is refused.
func TestAProcessThatWasStoppedBeyondItsTTLIsToldAndItsLateWriteIsRefused(t *testing.T) {
	f := newFixture(t)
	const ttl = 2 * time.Second
	h := f.start(holderSettings{Lock: "lock", TTL: ttl, Resource: "resource"})
	f.put("resource", "early")
	first := h.next("held")
	next := lockInBackground(f.ctx(), etcdlock.NewMutex(f.session(f.client(), ttl), "lock"))
	f.waitForKeys("lock", 2)

	h.signal(syscall.SIGSTOP)
	second := granted(t, next)
	require.Greater(t, second.handle.Token(), first.Token)
	continued := time.Now()
	h.signal(syscall.SIGCONT)
	lost := h.next("lost")
	t.Logf("figure: told %v after SIGCONT", lost.At.Sub(continued))
	require.True(t, lost.Expired, lost.Error)
	require.True(t, lost.Refused, "the late write went through")
	require.Less(t, lost.At.Sub(continued), 500*time.Millisecond)
	require.Less(t, lost.Token, second.handle.Token())
	require.Equal(t, "early", f.get("resource"))
	require.NoError(t, second.handle.Err())
	release(t, second.handle)
	h.quit()
}

func TestAProcessThatEndsInOrderLeavesTheLockAtOnce(t *testing.T) {
	f := newFixture(t)
	h := f.start(holderSettings{Lock: "lock", TTL: 10 * time.Second})
	h.next("held")
	next := lockInBackground(f.ctx(), etcdlock.NewMutex(f.session(f.client(), 3*time.Second), "lock"))
	f.waitForKeys("lock", 2)
	start := time.Now()
	h.quit()
	second := granted(t, next)
	require.Less(t, second.at.Sub(start), 3*time.Second, "not by the lease's expiry")
	release(t, second.handle)
}
