//go:build linux

package main

import (
	"encoding/json"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
)

// requireData requires that a text is a sequence of JSON values.
func requireData(t *testing.T, text string) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	for values := 0; ; values++ {
		var v any
		err := dec.Decode(&v)
		if err == io.EOF {
			require.Positive(t, values)
			return
		}
		require.NoError(t, err, "%s", text)
	}
}

// Standard output has data only, and standard error has the texts for people.
func TestDataGoesToStandardOutputOnly(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	_, err := etcdlock.NewMutex(newSession(t), name+"/lock").Lock(t.Context())
	require.NoError(t, err)
	for _, args := range [][]string{
		{"ls", name}, {"ls", name + "-unused"}, {"show", name + "/lock"}, {"show", name + "-unused"}, {"doctor", name}, {"deadlocks", name},
	} {
		p := runToEnd(t, append(args, "-o", "json")...)
		requireData(t, p.out.String())
		require.Empty(t, p.stderr.String(), "%v", args)
	}
	for _, args := range [][]string{{"ls", name}, {"show", name + "/lock"}, {"doctor", name}, {"version"}} {
		p := runToEnd(t, args...)
		require.NotEmpty(t, p.out.String(), "%v", args)
		require.Empty(t, p.stderr.String(), "%v", args)
	}

	// Without data there is a text for people.
	for _, args := range [][]string{{"ls", name + "-unused"}, {"deadlocks", name}} {
		p := runToEnd(t, args...)
		require.Empty(t, p.out.String(), "%v", args)
		require.Regexp(t, `^etcdlock: .*\n$`, p.stderr.String(), "%v", args)
	}
	for _, args := range [][]string{
		{"lock", "--try", name + "/lock", "--", "true"}, {"ask", "--timeout", "5s", name + "/lock"}, {"evict", name + "/lock"},
		{"evict", "--yes", name + "/lock"}, {"lock"}, {"ls", "--nonsense"}, {"lock", name + "-none", "--", "/none"},
	} {
		p := runToEnd(t, args...)
		require.Empty(t, p.out.String(), "%v", args)
		require.NotEmpty(t, p.stderr.String(), "%v", args)
	}
}

// The output of a command is that of etcdlock, unchanged, also while etcdlock prints about the wait.
func TestTheOutputOfACommandIsUnchanged(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	lock, err := etcdlock.NewMutex(newSession(t), name).Lock(t.Context())
	require.NoError(t, err)
	p := start(t, "lock", "-v", name, "--", "printf", `a\nb\n`)
	eventually(t, func() bool { return strings.Contains(p.stderr.String(), "place 1 in the queue") }, "it waits")
	require.NoError(t, lock.Unlock(t.Context()))
	require.Zero(t, p.wait())
	require.Equal(t, "a\nb\n", p.output())

	p = runToEnd(t, "elect", "--once", name+"-e", "--", "printf", `a\nb\n`)
	require.Zero(t, p.code)
	require.Equal(t, "a\nb\n", p.out.String())
	require.Contains(t, p.stderr.String(), "leading")

	election := etcdlock.NewElection(newSession(t), name+"-e")
	_, err = election.Campaign(t.Context(), "host-a")
	require.NoError(t, err)
	for _, args := range [][]string{{"elect", "--observe", name + "-e", "-o", "json"}, {"watch", name + "-e", "-o", "json"}} {
		p := start(t, args...)
		requireData(t, receive(t, p.lines, "the leader"))
		p.signal(sigterm)
		p.wait()
		requireData(t, p.output())
		require.Regexp(t, `^etcdlock: signal: \w+\n$`, p.stderr.String())
	}
}

func TestAnAskerIsDescribedByWhatIsKnownOfIt(t *testing.T) {
	for want, r := range map[string]etcdlock.ReleaseRequest{
		"ops (host-a, pid 7): deploying":          {Owner: "ops", Host: "host-a", PID: 7, Reason: "deploying"},
		"ops (host-a, pid 7)":                     {Owner: "ops", Host: "host-a", PID: 7},
		"an unnamed process (host-a, pid 7)":      {Host: "host-a", PID: 7},
		"an unnamed process":                      {},
		"an unnamed process: deploying":           {Reason: "deploying"},
		`"\x1b[2J" (host-a, pid 7): "a\nb"`:       {Owner: "\x1b[2J", Host: "host-a", PID: 7, Reason: "a\nb"},
		"a name with spaces (host-a, pid 7): x y": {Owner: "a name with spaces", Host: "host-a", PID: 7, Reason: "x y"},
	} {
		require.Equal(t, want, asker(r.Owner, r.Host, r.PID, r.Reason))
	}
}

// A session need not have an owner, and the line about its request has no gap in its place.
func TestAnAskerWithoutOwnerIsPrinted(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	p := start(t, "lock", "--on-ask", "TERM", name, "--", "sh", "-c", "echo in; exec sleep 60")
	p.says("in")
	s, err := etcdlock.NewSession(t.Context(), dev.client, etcdlock.WithOwner(""))
	require.NoError(t, err)
	require.NoError(t, s.Ask(t.Context(), name, ""))
	require.NoError(t, s.Close(t.Context()))
	p.wait()
	host, err := os.Hostname()
	require.NoError(t, err)
	require.Regexp(t, `^etcdlock: "`+regexp.QuoteMeta(name)+`": asked to release by an unnamed process \(`+regexp.QuoteMeta(host)+`, pid \d+\)\n`, p.stderr.String())
}
