package etcdproc

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	server = "go.etcd.io/etcd/server/v3"
	ctl    = "go.etcd.io/etcd/etcdctl/v3"
)

// Programs are one version of etcd, built.
type Programs struct {
	Version string // "v3.7.3"
	Etcd    string // paths
	Etcdctl string
}

// Found returns the programs in a directory, under their usual names.
func Found(ctx context.Context, dir string) (Programs, error) {
	p := Programs{Etcd: filepath.Join(dir, "etcd"), Etcdctl: filepath.Join(dir, "etcdctl")}
	out, err := exec.CommandContext(ctx, p.Etcd, "--version").Output()
	if err != nil {
		return p, fmt.Errorf("%s --version: %w", p.Etcd, err)
	}
	if _, err := os.Stat(p.Etcdctl); err != nil {
		return p, err
	}
	if _, err := fmt.Sscanf(string(out), "etcd Version: %s", &p.Version); err != nil {
		return p, fmt.Errorf("%s --version: %w in %q", p.Etcd, err, out)
	}
	p.Version = "v" + strings.TrimPrefix(p.Version, "v")
	return p, nil
}

// Own returns the version that the module around the working directory requires.
func Own(ctx context.Context) (Programs, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", server).Output()
	if err != nil {
		return Programs{}, fmt.Errorf("which version of etcd is ours: %w", err)
	}
	return build(ctx, strings.TrimSpace(string(out)), func(string) ([]string, error) { return nil, nil })
}

// Build returns any version that is on the module proxy.
func Build(ctx context.Context, version string) (Programs, error) {
	return build(ctx, version, func(dir string) ([]string, error) {
		// A module of its own: that of the server has replace directives, with which "go
		// install module@version" refuses it.
		if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module build\n\ngo 1.26.0\n"), 0o644); err != nil {
			return nil, err
		}
		env := []string{"GOWORK=off", "GOFLAGS=-mod=mod"}
		return env, run(ctx, dir, env, "get", server+"@"+version, ctl+"@"+version)
	})
}

// build keeps the programs in the user's cache directory. It takes about a minute and a
// half when nothing of it was built before. prepare makes a module in an empty directory
// and returns what the go command needs there; without one the working directory's does.
func build(ctx context.Context, version string, prepare func(dir string) (env []string, err error)) (Programs, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return Programs{}, err
	}
	dir := filepath.Join(cache, "etcdlock", "etcd-"+version)
	if p, err := Found(ctx, dir); err == nil {
		return p, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return Programs{}, err
	}
	// Beside its place, to be renamed within one file system.
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "build-")
	if err != nil {
		return Programs{}, err
	}
	defer os.RemoveAll(tmp)
	env, err := prepare(tmp)
	if err != nil {
		return Programs{}, err
	}
	from := tmp
	if env == nil {
		from = "."
	}
	for name, path := range map[string]string{"etcd": server, "etcdctl": ctl} {
		if err := run(ctx, from, env, "build", "-trimpath", "-o", filepath.Join(tmp, name), path); err != nil {
			return Programs{}, err
		}
	}
	p, err := Found(ctx, tmp)
	if err != nil {
		return p, err
	}
	if err := os.Rename(tmp, dir); err != nil && !exists(filepath.Join(dir, "etcd")) { // else somebody else was faster
		return p, err
	}
	return Found(ctx, dir)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func run(ctx context.Context, dir string, env []string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}
