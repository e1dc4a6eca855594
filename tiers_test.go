package etcdlock_test

import (
	"encoding/json"
	"go/build"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// skips lists the files with tests that may skip, with the reason. A test that skips for any other
// reason would run nowhere, without a notice.
var skips = map[string]string{
	"api_test.go":                                  "a module archive holds the root module alone",
	"bench/others_zookeeper_test.go":               "ZooKeeper is no module; `make bench` names what is missing",
	"cmd/etcdlock/job_test.go":                     "a file system may have no leases of files",
	"cmd/etcdlock/process_test.go":                 "namespaces of processes take a right; a make of before 4.4 has one kind of jobserver",
	"examples/demo/main_test.go":                   "go test -short leaves out what takes seconds; no target uses that",
	"examples/internal/devetcd/devetcd_test.go":    "the server was ready before the cancelled context was looked at",
	"examples/internal/programtest/programtest.go": "Windows has no signals",
	"fuzz_test.go":                                 "inputs longer than those that find anything",
	"internal/queue/fuzz_test.go":                  "inputs longer than those that find anything",
	"lockui/security_test.go":                      "a module archive holds the module alone",
	"modules_test.go":                              "a module archive holds the root module alone",
	"release/artifacts_test.go":                    "only `make release-artifacts` has artifacts; `make nightly` calls it",
	"test/internal/slowdisk/slowdisk_test.go":      "mounting takes a right that a user may lack",
	"test/browser/main_test.go":                    "needs Chromium; `make browser` runs it, in `make nightly`",
	"test/fence/main_test.go":                      "a machine may have no PostgreSQL or MariaDB; .ci/run installs both, and fails if one is missing",
	"test/fence/sql_test.go":                       "a test of one database is skipped on the others",
	"test/fence/stress/stress_test.go":             "a machine may have no PostgreSQL or MariaDB, as above",
	"test/mixed/auth_test.go":                      "etcd 3.4 alone; `make servers` runs it on the others",
	"test/mixed/revisions_test.go":                 "a shallow clone, or an archive, has no older revision",
}

var skipCall = regexp.MustCompile(`\b[tbf]\.Skip(f|Now)?\(`)

// `make check` runs ./... of each module of go.work, on Linux, and some with the tag lockorder. So a test runs if its module is in
// go.work, its file is built there, and it does not skip.
func TestEveryTestRunsInMakeCheck(t *testing.T) {
	if _, err := os.Stat("test/go.mod"); err != nil {
		t.Skip("a module archive holds the root module alone; run this in a checkout")
	}
	var work struct {
		Use []struct{ DiskPath string }
	}
	require.NoError(t, json.Unmarshal(goCommand(t, "work", "edit", "-json", "go.work"), &work))
	modules := map[string]bool{}
	for _, use := range work.Use {
		modules[path.Clean(use.DiskPath)] = true
	}

	linux := build.Default
	linux.GOOS, linux.GOARCH, linux.CgoEnabled = "linux", "amd64", true
	raced := linux
	raced.BuildTags = []string{"race"}
	ordered := linux
	ordered.BuildTags = []string{"lockorder"}
	unused := map[string]bool{"tiers_test.go": true}
	for file := range skips {
		unused[file] = true
	}
	require.NoError(t, filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && file != "." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata"): // as for the go command
			return filepath.SkipDir
		case entry.Name() == "go.mod":
			require.True(t, modules[filepath.Dir(file)], "%s is in no line of go.work: its tests run nowhere", file)
		case !strings.HasSuffix(file, ".go"):
			return nil
		}
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		if skipCall.Match(text) && file != "tiers_test.go" {
			require.Contains(t, skips, file, "a test that skips here runs nowhere")
		}
		delete(unused, file)
		if strings.HasSuffix(file, "_test.go") {
			plain, err := linux.MatchFile(filepath.Dir(file), filepath.Base(file))
			require.NoError(t, err)
			race, err := raced.MatchFile(filepath.Dir(file), filepath.Base(file))
			require.NoError(t, err)
			order, err := ordered.MatchFile(filepath.Dir(file), filepath.Base(file))
			require.NoError(t, err)
			require.True(t, plain || race || order, "%s is built nowhere that tests run", file)
		}
		return nil
	}))
	require.Empty(t, unused, "files that may skip, and are gone")
}
