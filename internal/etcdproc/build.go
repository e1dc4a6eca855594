package etcdproc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"go.etcd.io/etcd/api/v3/version"
)

const (
	server = "go.etcd.io/etcd/server/v3"
	ctl    = "go.etcd.io/etcd/etcdctl/v3"
)

// Version is the etcd of the client that this program is built with.
var Version = "v" + version.Version

// Programs are one version of etcd, built.
type Programs struct {
	Version string // "v3.7.3"
	Etcd    string // paths
	Etcdctl string
}

// Found returns the programs for the path of an etcd. An etcdctl in the same directory belongs to them.
func Found(ctx context.Context, etcd string) (Programs, error) {
	p := Programs{Etcd: etcd, Etcdctl: filepath.Join(filepath.Dir(etcd), "etcdctl")}
	out, err := exec.CommandContext(ctx, etcd, "--version").Output()
	if err != nil {
		return p, fmt.Errorf("%s --version: %w", etcd, err)
	}
	if _, err := fmt.Sscanf(string(out), "etcd Version: %s", &p.Version); err != nil {
		return p, fmt.Errorf("%s --version: %w in %q", etcd, err, out)
	}
	p.Version = "v" + strings.TrimPrefix(p.Version, "v")
	return p, nil
}

// Dir is where the programs of a version are kept.
func Dir(version string) (string, error) {
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, "etcdlock", "etcd-"+version), err
}

// Own returns the version that the module around the working directory requires, built with the
// dependencies of that module. Both programs have to be among its packages.
func Own(ctx context.Context, say func(string, ...any)) (Programs, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", server).Output()
	if err != nil {
		return Programs{}, fmt.Errorf("which version of etcd is ours: %w", err)
	}
	return kept(ctx, strings.TrimSpace(string(out)), say, func(to string) error {
		return compile(ctx, ".", nil, to)
	})
}

// Given calls Found if a command line names an etcd, and otherwise builds Version.
func Given(ctx context.Context, etcd string, say func(string, ...any)) (Programs, error) {
	if etcd != "" {
		return Found(ctx, etcd)
	}
	return Build(ctx, Version, say)
}

// Build returns any version that is on the module proxy.
func Build(ctx context.Context, version string, say func(string, ...any)) (Programs, error) {
	return kept(ctx, version, say, func(to string) error {
		// The build needs a module of its own: the server's module has replace directives, so
		// "go install module@version" refuses it.
		if err := os.WriteFile(filepath.Join(to, "go.mod"), []byte("module build\n\ngo 1.26.0\n"), 0o644); err != nil {
			return err
		}
		env := []string{"GOWORK=off", "GOFLAGS=-mod=mod"}
		if err := run(ctx, to, env, "get", server+"@"+version, ctl+"@"+version); err != nil {
			return err
		}
		return compile(ctx, to, env, to)
	})
}

// kept returns a version that was built before, or builds it now, which takes about a minute and a
// half. build gets an empty directory.
func kept(ctx context.Context, version string, say func(string, ...any), build func(to string) error) (Programs, error) {
	dir, err := Dir(version)
	if err != nil {
		return Programs{}, err
	}
	etcd := filepath.Join(dir, "etcd")
	if p, err := Found(ctx, etcd); err == nil {
		return p, nil
	}
	say("building etcd %s into %s, which takes about 90 s", version, dir)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return Programs{}, err
	}
	// The temporary directory is on the same file system, so that the rename is atomic.
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "build-")
	if err != nil {
		return Programs{}, err
	}
	defer os.RemoveAll(tmp)
	if err := build(tmp); err != nil {
		return Programs{}, err
	}
	if err := os.Rename(tmp, dir); err != nil {
		if p, found := Found(ctx, etcd); found == nil {
			return p, nil // another process was faster
		}
		// The directory that is there is damaged, and would stay so for every later call.
		if err := errors.Join(os.RemoveAll(dir), os.Rename(tmp, dir)); err != nil {
			return Programs{}, err
		}
	}
	return Found(ctx, etcd)
}

// compile builds both programs, as the module around dir has them.
func compile(ctx context.Context, dir string, env []string, to string) error {
	for name, path := range map[string]string{"etcd": server, "etcdctl": ctl} {
		if err := run(ctx, dir, env, "build", "-trimpath", "-o", filepath.Join(to, name), path); err != nil {
			return err
		}
	}
	return nil
}

func run(ctx context.Context, dir string, env []string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}
