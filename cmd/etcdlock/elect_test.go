//go:build linux

package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/faultproxy"
)

const sigterm = syscall.SIGTERM

// The failover test of a typical tutorial: two nodes run the leader script, node 1 is stopped, and
// node 2 leads. Node 1 must not work any more when node 2 leads.
func TestTheFailoverOfTheTutorial(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	script := `echo "leader $ETCDLOCK_ID"; echo "pid $$"; while :; do sleep 0.05; done`
	node1 := start(t, "elect", name, "--ttl", ttl.String(), "--id", "node-1", "--", "sh", "-c", script)
	require.Equal(t, "node-1", node1.says("leader "))
	work := node1.pid("pid ")
	observer := start(t, "elect", name, "--observe")
	require.Equal(t, "node-1", observer.says(""))
	node2 := start(t, "elect", name, "--ttl", ttl.String(), "--id", "node-2", "--", "sh", "-c", script)

	node1.signal(syscall.SIGSTOP)
	require.Equal(t, "node-2", node2.says("leader "))
	require.True(t, dead(work), "node 1's work has ended")
	observer.says("node-2")

	node1.signal(syscall.SIGCONT) // it campaigns again, behind node 2
	eventually(t, func() bool { return len(keysOf(t, name+"/")) == 2 }, "it is in the queue")
	node2.signal(syscall.SIGTERM)
	require.Equal(t, 128+15, node2.wait())
	require.Equal(t, "node-1", node1.says("leader "))
	node1.signal(syscall.SIGTERM)
	require.Equal(t, 128+15, node1.wait())
	observer.signal(syscall.SIGTERM)
	require.Equal(t, 128+15, observer.wait())
	node1.noProcessLeft()
	node2.noProcessLeft()
	nothingLeft(t, name)
}

func TestALostTermIsFollowedByAnother(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	proxy, err := faultproxy.New(dev.endpoint)
	require.NoError(t, err)
	defer proxy.Close()
	p := startOn(t, proxy.Endpoints()[0], "elect", name, "--ttl", ttl.String(), "--", "sh", "-c",
		`echo "token $ETCDLOCK_TOKEN"; echo "pid $$"; echo "term $ETCDLOCK_CREATE_REVISION"; while :; do sleep 0.05; done`)
	first, pid, term := p.pid("token "), p.pid("pid "), p.pid("term ")
	o := start(t, "elect", name, "--observe", "-o", "json") // report E8
	var saw seen
	require.NoError(t, json.Unmarshal([]byte(receive(t, o.lines, "who leads")), &saw))
	require.EqualValues(t, term, saw.CreateRevision)
	o.signal(syscall.SIGTERM)
	o.wait()
	proxy.Hold()
	dies(t, pid)
	proxy.Resume()
	require.Greater(t, p.pid("token "), first)
	p.signal(syscall.SIGTERM)
	require.Equal(t, 128+15, p.wait())
	p.noProcessLeft()
	nothingLeft(t, name)
}

func TestACommandThatEndsResignsAndRunsAgain(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	p := start(t, "elect", name, "--id", "a", "--", "sh", "-c", `echo "token $ETCDLOCK_TOKEN"; exit 3`)
	first := p.pid("token ")
	require.Greater(t, p.pid("token "), first)
	eventually(t, func() bool { return len(keysOf(t, name+"/")) == 0 }, "it resigns in between")
	p.signal(syscall.SIGTERM)
	require.Contains(t, []int{3, 128 + 15}, p.wait())
	p.noProcessLeft()
	nothingLeft(t, name)

	p = runToEnd(t, "elect", name, "--once", "--", "sh", "-c", "exit 3")
	require.Equal(t, 3, p.code)
	require.Equal(t, exitNotFound, runToEnd(t, "elect", name, "--", "no-such-command").code)
	require.Equal(t, exitUsage, runToEnd(t, "elect", name).code)
	require.Equal(t, exitUsage, runToEnd(t, "elect", name, "--observe", "--", "true").code)
	nothingLeft(t, name)
}

func TestOnceEndsWithTheTermThatIsLost(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	p := start(t, "elect", name, "--once", "--", "sh", "-c", `echo "key $ETCDLOCK_KEY"; sleep 60`)
	p.says("key ")
	require.Zero(t, runToEnd(t, "evict", "--yes", name).code)
	require.Equal(t, exitLost, p.wait())
	p.noProcessLeft()
}

func TestAnUnhealthyLeaderResignsAndTheProbeNamesTheLeader(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	well := filepath.Join(t.TempDir(), "well")
	require.NoError(t, os.WriteFile(well, nil, 0o600))
	p := start(t, "elect", name, "--id", "a", "--listen", "127.0.0.1:0", "--health", "test -e "+well, "--health-interval", "1s",
		"--", "sh", "-c", `echo leading; while :; do sleep 0.05; done`)
	p.says("leading")
	var url string
	eventually(t, func() bool {
		url = regexp.MustCompile(`http://\S+/leader\b`).FindString(p.stderr.String())
		return url != ""
	}, "it says where it listens")
	probe := func() (int, string) {
		resp, err := http.Get(url)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(body)
	}
	code, body := probe()
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "a\n", body)

	require.NoError(t, os.Remove(well))
	eventually(t, func() bool { code, _ := probe(); return code == http.StatusServiceUnavailable }, "the probe says no")
	eventually(t, func() bool { return len(keysOf(t, name+"/")) == 0 }, "it has resigned")
	require.NoError(t, os.WriteFile(well, nil, 0o600))
	p.says("leading")
	p.signal(syscall.SIGTERM)
	require.Equal(t, 128+15, p.wait())
	p.noProcessLeft()
	nothingLeft(t, name)
}

func TestTheCandidateWithTheHighestPriorityIsNext(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	script := []string{"--", "sh", "-c", `echo leading; while :; do sleep 0.05; done`}
	first := start(t, append([]string{"elect", name, "--id", "first"}, script...)...)
	first.says("leading")
	low := start(t, append([]string{"elect", name, "--id", "low"}, script...)...)
	eventually(t, func() bool { return len(keysOf(t, name+"/")) == 2 }, "it waits")
	high := start(t, append([]string{"elect", name, "--id", "high", "--priority", "5"}, script...)...)
	eventually(t, func() bool { return len(keysOf(t, name+"/")) == 3 }, "it waits")
	first.signal(syscall.SIGTERM)
	high.says("leading")
	require.NotContains(t, low.out.String(), "leading")
	for _, p := range []*process{high, low} {
		p.signal(syscall.SIGTERM)
		p.wait()
		p.noProcessLeft()
	}
	nothingLeft(t, name)
}
