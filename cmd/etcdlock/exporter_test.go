//go:build linux

package main

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
)

// scrape returns the samples of an exporter.
func scrape(t *testing.T, url string) map[string]string {
	t.Helper()
	resp, err := http.Get(url) //nolint:noctx // of the test's own server
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	samples := make(map[string]string)
	for line := range strings.Lines(string(body)) {
		if m := regexp.MustCompile(`^([a-z_]+(?:\{.*\})?) (\S+)\n$`).FindStringSubmatch(line); m != nil {
			samples[m[1]] = m[2]
		}
	}
	return samples
}

// exports starts an exporter, and returns its address.
func exports(t *testing.T, args ...string) string {
	t.Helper()
	p := start(t, append([]string{"exporter", "--listen", "127.0.0.1:0"}, args...)...)
	address := regexp.MustCompile(`http://\S+`)
	eventually(t, func() bool { return address.MatchString(p.stderr.String()) }, "the address")
	return address.FindString(p.stderr.String())
}

func TestAnExporterTellsWhatEtcdHas(t *testing.T) {
	t.Parallel()
	prefix := nameOf(t) + "-"
	s := newSession(t)
	_, err := etcdlock.NewMutex(s, prefix+"lock").Lock(t.Context())
	require.NoError(t, err)
	waitBehind(t, prefix+"lock")
	_, err = etcdlock.NewElection(s, prefix+"election").Campaign(t.Context(), "host-a:80")
	require.NoError(t, err)
	_, err = dev.client.Put(t.Context(), prefix+"lock/stray", "x")
	require.NoError(t, err)
	url := exports(t, prefix+"*", "--election", prefix+"vacant", prefix+"nobody")
	got := scrape(t, url)
	for sample, want := range map[string]string{
		`etcdlock_exporter_up`: "1", `etcdlock_stray_keys`: "1", `etcdlock_deadlocks`: "0",
		`etcdlock_queue_entries{name="` + prefix + `lock",state="holding"}`:     "1",
		`etcdlock_queue_entries{name="` + prefix + `lock",state="waiting"}`:     "2", // with the stray key
		`etcdlock_queue_entries{name="` + prefix + `election",state="holding"}`: "1",
		`etcdlock_queue_entries{name="` + prefix + `nobody",state="holding"}`:   "0",
		`etcdlock_election_vacant{name="` + prefix + `election"}`:               "0",
		`etcdlock_election_vacant{name="` + prefix + `vacant"}`:                 "1",
	} {
		require.Equal(t, want, got[sample], "%s: %v", sample, got)
	}
	require.NotContains(t, got, `etcdlock_election_vacant{name="`+prefix+`lock"}`)
	require.Regexp(t, `^[5-9]|10$`, got[`etcdlock_holder_lease_remaining_seconds{name="`+prefix+`lock"}`])
	require.NotEmpty(t, got[`etcdlock_holder_age_seconds{name="`+prefix+`lock"}`])
}

func TestAnExporterBoundsTheNames(t *testing.T) {
	t.Parallel()
	prefix := nameOf(t) + "-"
	s := newSession(t)
	for i := range 30 {
		_, err := etcdlock.NewMutex(s, fmt.Sprintf("%s%02d", prefix, i)).Lock(t.Context())
		require.NoError(t, err)
	}
	got := scrape(t, exports(t, "--max-names", "10", prefix+"*"))
	names := 0
	for sample := range got {
		if strings.HasPrefix(sample, "etcdlock_queue_entries") && strings.Contains(sample, `state="holding"`) {
			names++
		}
	}
	require.Equal(t, 11, names)
	require.Equal(t, "20", got[`etcdlock_queue_entries{name="_other_",state="holding"}`])
}
