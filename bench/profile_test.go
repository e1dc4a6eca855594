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
	total := 0.0
	for work := 300 * time.Millisecond; total == 0; work *= 2 { // it may begin after the work is done
		require.Less(t, work, time.Minute, "there is nothing in the profile")
		began := time.Now()
		take, err := takeEtcd(t.Context(), server.URL, os.Getpid())
		require.NoError(t, err)
		burn(t, work)
		p, used, err := take.end()
		require.NoError(t, err)
		require.Less(t, time.Since(began), longest)
		require.GreaterOrEqual(t, used, work)
		_, total, _ = shares([]*profile.Profile{p})
	}
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
	const during, after = 300 * time.Millisecond, 1500 * time.Millisecond
	o := order{Profile: filepath.Join(t.TempDir(), "profile")}
	var profiled func() (time.Duration, error)
	for window := time.Second; ; window *= 2 { // until the work is done before the contention ends
		o.Until = clock.now() + int64(window)
		var err error
		profiled, err = profileUntil(o)
		require.NoError(t, err)
		burn(t, during)
		if clock.now() < o.Until {
			break
		}
		_, err = profiled()
		require.NoError(t, err)
	}
	clock.sleepUntil(o.Until)
	burn(t, after)
	used, err := profiled()
	require.NoError(t, err)
	require.GreaterOrEqual(t, used, during)
	require.Less(t, used, after)

	text, err := os.ReadFile(o.Profile)
	require.NoError(t, err)
	p, err := profile.ParseData(text)
	require.NoError(t, err)
	_, total, _ := shares([]*profile.Profile{p})
	require.Less(t, total, float64(after))
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
