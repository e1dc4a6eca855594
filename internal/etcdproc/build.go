// Package etcdproc runs clusters of real etcd processes on this machine, for
// measurements and for faults.
package etcdproc

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Version is the etcd that is run: client and server of one version.
const Version = "v3.7.3"

// Binary returns a real etcd of that version. It is built from the module proxy
// once, which takes a minute and a half, and kept in the user's cache directory.
func Binary(ctx context.Context, say func(string, ...any)) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	cache = filepath.Join(cache, "etcdlock-etcd")
	binary := filepath.Join(cache, "etcd-"+Version)
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	say("building etcd %s into %s, which takes about 90 s", Version, cache)
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	// Built in the cache directory, to be renamed within one file system.
	dir, err := os.MkdirTemp(cache, "build-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	// A module of its own: the server's go.mod has replace directives, with which
	// "go install module@version" refuses it.
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module build\n\ngo 1.26.0\n"), 0o644); err != nil {
		return "", err
	}
	const server = "go.etcd.io/etcd/server/v3"
	for _, args := range [][]string{
		{"get", server + "@" + Version},
		{"build", "-trimpath", "-o", "etcd", server},
	} {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return binary, os.Rename(filepath.Join(dir, "etcd"), binary)
}
