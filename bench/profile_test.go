package main

import (
	"net/http"
	"net/http/httptest"
	"net/http/pprof"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/stretchr/testify/require"
)

// burn uses processor time, however long that takes.
func burn(t *testing.T, d time.Duration) {
	began, err := processorTime(0)
	require.NoError(t, err)
	for now := began; now-began < d; {
		now, err = processorTime(0)
		require.NoError(t, err)
	}
}

// The server would go on for minutes, as it was asked to.
func TestServersProfileEndsWhenItIsToldTo(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(pprof.Profile))
	defer server.Close()
	began := time.Now()
	take, err := takeEtcd(t.Context(), server.URL, os.Getpid())
	require.NoError(t, err)
	time.Sleep(50 * time.Millisecond)
	burn(t, 300*time.Millisecond)
	p, used, err := take.end()
	require.NoError(t, err)
	require.Less(t, time.Since(began), 10*time.Second)
	require.Greater(t, used, 100*time.Millisecond)
	_, total, _ := shares([]*profile.Profile{p})
	require.Positive(t, total)
}

func TestServerWithoutProfilesIsAnError(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	take, err := takeEtcd(t.Context(), server.URL, os.Getpid())
	require.NoError(t, err)
	_, _, err = take.end()
	require.ErrorContains(t, err, "404")
}

// What comes after the contention is not in the worker's profile.
func TestWorkersProfileEndsWithTheContention(t *testing.T) {
	o := order{Until: clock.now() + int64(300*time.Millisecond), Profile: filepath.Join(t.TempDir(), "profile")}
	profiled, err := profileUntil(o)
	require.NoError(t, err)
	burn(t, 1500*time.Millisecond)
	used, err := profiled()
	require.NoError(t, err)
	require.Greater(t, used, 50*time.Millisecond)
	require.Less(t, used, time.Second)

	text, err := os.ReadFile(o.Profile)
	require.NoError(t, err)
	p, err := profile.ParseData(text)
	require.NoError(t, err)
	_, total, _ := shares([]*profile.Profile{p})
	require.Less(t, total, float64(time.Second))
	require.Positive(t, total)
}

func TestFilesOfProfilesTellWhatTheyAre(t *testing.T) {
	dir := t.TempDir()
	p := &profiler{dir: dir}
	at := spot{Suite: "processes", Nodes: 3, Case: "4 processes x 25 goroutines", Contestant: "etcdlock, retention", Metric: perSecond}
	c := p.of(at)
	at.Metric = smallestShare
	require.Same(t, c, p.of(at), "a case is one, whatever is measured of it")
	c.clients.add(synthetic([]string{"main.main"}), time.Second)
	c.clients.add(synthetic([]string{"main.main"}), time.Second)
	c.etcd.add(synthetic([]string{"main.main"}), time.Second)
	require.NoError(t, p.write())
	require.FileExists(t, filepath.Join(dir, "profiles.md"))
	require.FileExists(t, filepath.Join(dir, "processes.4-processes-x-25-goroutines.etcdlock-retention.etcd.3-nodes.prof"))
	f, err := os.Open(filepath.Join(dir, "processes.4-processes-x-25-goroutines.etcdlock-retention.clients.3-nodes.prof"))
	require.NoError(t, err)
	defer f.Close()
	merged, err := profile.Parse(f)
	require.NoError(t, err)
	_, total, samples := shares([]*profile.Profile{merged})
	require.InDelta(t, float64(20*time.Millisecond), total, 1)
	require.Equal(t, int64(2), samples)
}
