//go:build linux

package main

import (
	"html"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
)

func TestThePageIsServed(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	_, err := etcdlock.NewMutex(newSession(t), name).Lock(t.Context())
	require.NoError(t, err)
	p := start(t, "ui", "--listen", "127.0.0.1:0", name)
	address := p.page(t)
	require.Eventually(t, func() bool {
		resp, err := http.Get(address + "names")
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return strings.Contains(string(body), name+"</bdi>")
	}, long, 50*time.Millisecond)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	<-p.ended
	require.Equal(t, 128+int(syscall.SIGTERM), p.code)
}

// page is the address of the page of "etcdlock ui".
func (p *process) page(t *testing.T) (address string) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, rest, ok := strings.Cut(p.stderr.String(), "page at ")
		address, _, _ = strings.Cut(rest, "\n")
		return ok && address != ""
	}, long, 10*time.Millisecond)
	return address
}

// read reads the body of an answer of the page.
func read(t *testing.T, resp *http.Response, err error) string {
	t.Helper()
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s", body)
	return string(body)
}

func TestThePageTransfersALeadership(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	a := elects(t, name, "a")
	a.says("leader ")
	b := elects(t, name, "b")
	eventually(t, func() bool { return len(keysOf(t, name+"/")) == 2 }, "it waits")
	p := start(t, "ui", "--listen", "127.0.0.1:0", "--allow", "transfer", name)
	address := p.page(t)
	resp, err := http.Get(address + "transfer?name=" + url.QueryEscape(name))
	_, form, ok := strings.Cut(read(t, resp, err), `<form class="confirm" action="`)
	require.True(t, ok)
	action, _, _ := strings.Cut(form, `"`)
	resp, err = http.PostForm(address+html.UnescapeString(action), url.Values{"reason": {"new kernel"}})
	require.Contains(t, read(t, resp, err), "The leader has handed over.")
	a.says("stopped")
	require.Equal(t, "b", b.says("leader "))
	require.Contains(t, a.stderr.String(), "new kernel")
	for _, p := range []*process{a, b, p} {
		p.signal(sigterm)
		p.wait()
	}
}

// Another address than loopback needs a mode of authentication that is complete.
func TestUnsafeFlagsOfThePageAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	short, good := filepath.Join(dir, "short"), filepath.Join(dir, "good")
	require.NoError(t, os.WriteFile(short, []byte("abc\n"), 0o600))
	require.NoError(t, os.WriteFile(good, []byte("a-token-that-is-long-enough\n"), 0o600))
	for args, says := range map[string]string{
		"ui a b":                       "at most 1 arg",
		"ui --listen 0.0.0.0:0":        "needs --auth",
		"ui --listen :0":               "needs --auth",
		"ui --listen nonsense":         "--listen nonsense",
		"ui --allow delete":            "no action",
		"ui --auth token":              "--host",
		"ui --auth password --host a":  "must be token, mtls or proxy",
		"ui --auth mtls --host a":      "needs --tls-cert",
		"ui --auth proxy --host a":     "addresses of the proxies",
		"ui --auth token --host a":     "--token-file",
		"ui --tls-cert a":              "both",
		"ui --auth token --host a:443": "--token-file",
		"ui --listen :0 --auth token --host a --token-file " + good: "needs --tls-cert",
		"ui --auth token --host a --token-file " + short:            "at least 20",
		"ui --auth token --host a:443 --token-file " + good:         "leave out the port",
		"ui --auth proxy --host a --trusted-proxy x":                "--trusted-proxy",
	} {
		p := runToEnd(t, strings.Split(args, " ")...)
		require.Equal(t, exitUsage, p.code, "%s: %s", args, &p.stderr)
		require.Contains(t, p.stderr.String(), says, args)
		require.Equal(t, 1, strings.Count(p.stderr.String(), "\n"), "one line: %s: %s", args, &p.stderr)
	}
}
