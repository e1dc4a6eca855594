package etcdlock_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	rootModule = "github.com/etcdlock/etcdlock"
	etcdClient = "go.etcd.io/etcd/client/v3"
)

// heavy lists what must never be in the root's go.mod: it would come into the
// build of every user. etcd's tests module is the worst of them; it forces
// versions of other modules on which a user's program may not compile.
var heavy = []string{
	"go.etcd.io/etcd/server/",
	"go.etcd.io/etcd/tests/",
	"go.etcd.io/etcd/etcdctl/",
	"go.etcd.io/etcd/etcdutl/",
	"go.etcd.io/etcd/pkg/",
	"go.etcd.io/bbolt",
	"go.etcd.io/raft/",
	"github.com/golang-jwt/",
	"github.com/olekukonko/",
	"github.com/prometheus/",
	"github.com/spf13/",
}

// testOnly lists what tests import and a user's program must not link.
var testOnly = []string{
	"testing",
	"github.com/stretchr/testify",
	"go.uber.org/goleak",
	"github.com/anishathalye/porcupine",
	rootModule + "/etcdlocktest",
	rootModule + "/internal/history",
	rootModule + "/internal/simetcd",
}

// modFile is the part of `go mod edit -json` that the tests look at.
type modFile struct {
	Module  struct{ Path string }
	Go      string
	Require []struct{ Path string }
	Replace []struct{ Old struct{ Path string } }
}

func readModFile(t *testing.T, file string) modFile {
	t.Helper()
	var mod modFile
	require.NoError(t, json.Unmarshal(goCommand(t, "mod", "edit", "-json", file), &mod))
	return mod
}

// goCommand returns what the go command prints. The workspace is switched off:
// a user has the root module without it.
func goCommand(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%v\n%s", cmd, &stderr)
	return out
}

func TestRootModuleStaysLight(t *testing.T) {
	mod := readModFile(t, "go.mod")
	require.Equal(t, rootModule, mod.Module.Path)
	require.Empty(t, mod.Replace, "a module with a replace directive cannot be installed by version")
	require.NotEmpty(t, mod.Require)
	// The indirect requirements are in the file too, so this sees everything
	// that a user's build takes from here.
	for _, req := range mod.Require {
		for _, prefix := range heavy {
			require.False(t, strings.HasPrefix(req.Path, prefix),
				"go.mod requires %s: move what needs it to another module", req.Path)
		}
	}
}

// A program that uses etcd's client links every module already that this
// package brings along.
func TestPackageLinksNoMoreModulesThanTheEtcdClient(t *testing.T) {
	const format = "{{with .Module}}{{.Path}}{{end}}"
	client := strings.Fields(string(goCommand(t, "list", "-deps", "-f", format, etcdClient)))
	require.Contains(t, client, etcdClient)
	for _, pkg := range []string{".", "./etcdlocktest"} {
		for _, module := range strings.Fields(string(goCommand(t, "list", "-deps", "-f", format, pkg))) {
			if module != rootModule {
				require.Contains(t, client, module, "linked by %s", pkg)
			}
		}
	}
}

func TestPackageLinksNoTestCode(t *testing.T) {
	deps := strings.Fields(string(goCommand(t, "list", "-deps", ".")))
	require.Contains(t, deps, etcdClient)
	for _, dep := range deps {
		for _, name := range testOnly {
			require.False(t, dep == name || strings.HasPrefix(dep, name+"/"), "users would link %s", dep)
		}
	}
}

func TestModulesOfTheWorkspaceAgree(t *testing.T) {
	var work struct {
		Go  string
		Use []struct{ DiskPath string }
	}
	require.NoError(t, json.Unmarshal(goCommand(t, "work", "edit", "-json", "go.work"), &work))

	root := readModFile(t, "go.mod")
	require.Equal(t, root.Go, work.Go, "go.work's go version")
	var used []string
	for _, use := range work.Use {
		dir := path.Clean(use.DiskPath)
		used = append(used, dir)
		file := filepath.Join(dir, "go.mod")
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			t.Skipf("no %s: a module archive holds the root module alone; run this in a checkout", file)
		}
		mod := readModFile(t, file)
		require.Equal(t, path.Join(rootModule, dir), mod.Module.Path)
		require.Equal(t, root.Go, mod.Go, "%s's go version", file)
		// Built against this checkout, with the workspace or without it.
		for _, replace := range mod.Replace {
			require.True(t, replace.Old.Path == rootModule || strings.HasPrefix(replace.Old.Path, rootModule+"/"), "%s replaces another module", file)
		}
	}
	require.True(t, slices.Contains(used, "."), "go.work leaves the root out")
}
