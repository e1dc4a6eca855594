//go:build linux

package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/inspect/queues"
	"github.com/etcdlock/etcdlock/internal/wire"
)

func TestAPauseKeepsTheLeaderAndAllOthersOut(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	a := elects(t, name, "a")
	a.says("leader ")
	b := elects(t, name, "b")
	eventually(t, func() bool {
		notes, err := dev.client.Get(t.Context(), wire.Side(name, "who/"), clientv3.WithPrefix())
		return err == nil && len(notes.Kvs) == 2 && len(keysOf(t, name+"/")) == 2
	}, "it waits, and has noted that")

	require.Equal(t, exitFailure, runToEnd(t, "resume", name).code)
	require.Equal(t, exitUsage, runToEnd(t, "pause", name).code)
	p := runToEnd(t, "pause", name, "--for", "1h")
	require.Zero(t, p.code, "%s", &p.stderr)
	require.Contains(t, p.stderr.String(), `the leader "a" stays`)
	require.Equal(t, exitFailure, runToEnd(t, "pause", name, "--for", "1h").code)
	require.Contains(t, runToEnd(t, "ls", name).output(), "election (paused)")
	require.Contains(t, runToEnd(t, "show", name).output(), "pauses")
	observer := start(t, "elect", name, "--observe")
	require.Equal(t, "a", observer.says(""))

	a.signal(sigterm)
	a.wait()
	for observer.says("") != "" { // b is the oldest until it has moved
	}
	require.NotContains(t, b.out.String(), "leader ")
	require.Zero(t, runToEnd(t, "resume", name).code)
	b.says("leader ")
	b.signal(sigterm)
	b.wait()
	observer.signal(sigterm)
	observer.wait()
	nothingLeft(t, name)
}

func TestAPauseIsRefusedWhileACandidateWaitsThatWouldLead(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	_, err := etcdlock.NewElection(newSession(t), name).Campaign(t.Context(), "a")
	require.NoError(t, err)
	other := newSession(t)
	go func() { _, _ = etcdlock.NewElection(other, name).Campaign(t.Context(), "b") }()
	eventually(t, func() bool { return len(keysOf(t, name+"/")) == 2 }, "it waits")
	p := runToEnd(t, "pause", name, "--for", "1h")
	require.Equal(t, exitFailure, p.code)
	require.Contains(t, p.stderr.String(), `not paused: 1 entries`)
	require.Contains(t, p.stderr.String(), "WithPriority")
	require.Len(t, keysOf(t, name+"/"), 2)
}

func TestLsSelectsSortsAndPages(t *testing.T) {
	t.Parallel()
	prefix := nameOf(t)
	s := newSession(t)
	for _, name := range []string{"/a", "/b", "/c"} {
		_, err := etcdlock.NewMutex(s, prefix+name, etcdlock.WithOwner("owner"+name)).Lock(t.Context())
		require.NoError(t, err)
	}
	_, err := etcdlock.NewElection(s, prefix+"/e").Campaign(t.Context(), "host-a")
	require.NoError(t, err)
	waitBehind(t, prefix+"/b")
	names := func(args ...string) (some []string) {
		var qs []queues.Queue
		require.NoError(t, json.Unmarshal([]byte(runToEnd(t, append([]string{"ls", "-o", "json", prefix + "/"}, args...)...).output()), &qs))
		for _, q := range qs {
			some = append(some, strings.TrimPrefix(q.Name, prefix))
		}
		return some
	}
	require.Equal(t, []string{"/a", "/b", "/c", "/e"}, names())
	require.Equal(t, []string{"/e", "/c", "/b", "/a"}, names("--reverse"))
	require.Equal(t, []string{"/e"}, names("--kind", "election"))
	require.Equal(t, []string{"/b"}, names("--waiting"))
	require.Equal(t, []string{"/c"}, names("--holder", "owner/c"))
	require.Equal(t, "/b", names("--sort", "waiting")[0])
	require.Equal(t, []string{"/a", "/b"}, names("--limit", "2"))
	require.Equal(t, []string{"/c", "/e"}, names("--limit", "2", "--after", prefix+"/b"))
	require.Equal(t, "/e", names("--sort", "held", "--reverse")[3])
	for _, wrong := range [][]string{{"--kind", "x"}, {"--sort", "x"}, {"--limit", "-1"}, {"--after", "a", "--sort", "held"}} {
		require.Equal(t, exitUsage, runToEnd(t, append([]string{"ls"}, wrong...)...).code)
	}
	p := runToEnd(t, "ls", "--limit", "1", prefix+"/")
	require.Contains(t, p.stderr.String(), "and 3 more names (--after "+prefix+"/a")
}

func TestWatchRunsACommandForEachChange(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	l, err := etcdlock.NewMutex(newSession(t), name, etcdlock.WithOwner("$(touch evil); it's")).Lock(t.Context())
	require.NoError(t, err)
	p := start(t, "watch", name, "-o", "json", "--exec", `cat; echo "did $ETCDLOCK_CHANGE $ETCDLOCK_OWNER"; exit 3`)
	require.Equal(t, "holds $(touch evil); it's", p.says("did "))
	require.NoError(t, l.Unlock(t.Context()))
	require.Equal(t, "left $(touch evil); it's", p.says("did "))
	p.signal(sigterm)
	require.Equal(t, 128+15, p.wait())
	require.Contains(t, p.stderr.String(), "--exec at revision ")
}
