//go:build linux

package main

import (
	"io"
	"net/http"
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
	var address string
	require.Eventually(t, func() bool {
		_, rest, ok := strings.Cut(p.stderr.String(), "page at ")
		address, _, _ = strings.Cut(rest, "\n")
		return ok && address != ""
	}, long, 10*time.Millisecond)
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
