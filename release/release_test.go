package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/modfile"
)

// version is what the tests release. Nothing of it stays on the machine.
const version = "v0.1.0"

const changelog = "# Changelog\n\n## [Unreleased]\n\n- Something.\n"

// A release of this tree is made in a clone and served by a proxy of its own. In empty directories
// the command is installed from there, and a program for each module takes a lock. The etcd is that
// of the installed command.
func TestARelease(t *testing.T) {
	for _, role := range []string{"AUTHOR", "COMMITTER"} {
		t.Setenv("GIT_"+role+"_NAME", "Release")
		t.Setenv("GIT_"+role+"_EMAIL", "release@example.com")
	}
	repo := copyOfTheTree(t)
	ctx := t.Context()
	require.NoError(t, prepare(ctx, repo, version, time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)))

	// The commit after it is no release, and is built as before.
	require.ErrorContains(t, verify(ctx, repo, version), "replaces "+rootPath)
	run(t, filepath.Join(repo, "cmd/etcdlock"), []string{"GOWORK=off"}, "go", "list", "-deps", "./...")
	require.Contains(t, run(t, repo, nil, "cat", pinFile), strings.TrimSpace(run(t, repo, nil, "git", "rev-parse", "HEAD~1")))

	run(t, repo, nil, "git", "checkout", "--quiet", "HEAD~1")
	require.NoError(t, verify(ctx, repo, version))
	require.ErrorContains(t, verify(ctx, repo, "v0.2.0"), "requires "+rootPath+"@"+version+", not v0.2.0")
	modules, err := released(repo)
	require.NoError(t, err)

	proxy := t.TempDir()
	require.NoError(t, writeProxy(ctx, repo, version, proxy))
	env := goEnv(t, proxy)
	// What a packager builds from the tag has the modules that a user gets by version.
	for _, m := range modules {
		run(t, filepath.Join(repo, m.dir), env, "go", "mod", "tidy", "-diff")
	}

	bin := t.TempDir()
	run(t, t.TempDir(), append(env, "GOBIN="+bin), "go", "install", rootPath+"/cmd/etcdlock@"+version)
	etcdlock := filepath.Join(bin, "etcdlock")
	endpoint := serve(t, etcdlock)
	t.Run("command", func(t *testing.T) { useCommand(t, etcdlock, endpoint) })
	for _, m := range modules {
		if m.dir != "cmd/etcdlock" {
			t.Run(m.dir, func(t *testing.T) { useModule(t, m, env, endpoint) })
		}
	}
}

// copyOfTheTree is a repository with the files that git knows or does not ignore here.
func copyOfTheTree(t *testing.T) string {
	repo := t.TempDir()
	files := strings.Split(strings.Trim(run(t, "..", nil, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"), "\x00"), "\x00")
	require.Contains(t, files, "go.mod")
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join("..", file))
		if os.IsNotExist(err) {
			continue // removed, and not committed yet
		}
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Join(repo, filepath.Dir(file)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(repo, file), text, 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(repo, "CHANGELOG.md"), []byte(changelog), 0o600))
	run(t, repo, nil, "git", "init", "--quiet")
	run(t, repo, nil, "git", "add", "--all")
	run(t, repo, nil, "git", "commit", "--quiet", "--message", "The tree")
	return repo
}

// goEnv is the environment of a go command with a cache of modules of its own, in which the modules
// of the proxy stay. All others come from this machine's cache, and from its proxy if they are not
// there. -trimpath lets builds in different caches share what they compile.
func goEnv(t *testing.T, proxy string) []string {
	usual := strings.Fields(run(t, ".", nil, "go", "env", "GOMODCACHE", "GOPROXY"))
	require.Len(t, usual, 2)
	return []string{
		"GOWORK=off",
		"GOFLAGS=-trimpath -modcacherw",
		"GOSUMDB=off",
		"GOMODCACHE=" + t.TempDir(),
		"GOPROXY=file://" + proxy + ",file://" + filepath.Join(usual[0], "cache", "download") + "," + usual[1],
	}
}

// serve starts the etcd of the installed command, and returns its endpoint.
func serve(t *testing.T, etcdlock string) string {
	cmd := exec.CommandContext(t.Context(), etcdlock, "serve-dev", "--listen", "127.0.0.1:0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Wait() }) // the context of the test has ended
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	endpoint, ok := strings.CutPrefix(strings.TrimSpace(line), "export ETCDCTL_ENDPOINTS=")
	require.True(t, ok, line)
	return endpoint
}

// useCommand runs what an operator tries first.
func useCommand(t *testing.T, etcdlock, endpoint string) {
	etcdlock, dir := filepath.ToSlash(etcdlock), t.TempDir()
	env := []string{"ETCDCTL_ENDPOINTS=" + endpoint, "E=" + etcdlock}
	require.Equal(t, "etcdlock version "+version+"\n", run(t, dir, env, etcdlock, "version"))
	require.Contains(t, run(t, dir, env, etcdlock, "lock", "backup", "--", "sh", "-c", "$E ls"), "backup")
	require.Regexp(t, `^token \d+\n$`, run(t, dir, env, etcdlock, "elect", "--once", "scheduler", "--", "sh", "-c", "echo token $ETCDLOCK_TOKEN"))
	completion := run(t, dir, env, etcdlock, "completion", "bash")
	require.Contains(t, completion, "complete -o default -F __start_etcdlock etcdlock")
	t.Logf("%s: %d MB\n%s", etcdlock, size(t, etcdlock)/1e6, run(t, dir, nil, "go", "version", "-m", etcdlock))
}

// useModule builds a program that imports the module, and lets it take a lock.
func useModule(t *testing.T, m module, env []string, endpoint string) {
	dir := t.TempDir()
	source := filepath.Join("testdata", "consumers", strings.Replace(m.dir, ".", "root", 1), "main.go")
	text, err := os.ReadFile(source)
	require.NoError(t, err, "a released module has a program that uses it")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), text, 0o600))
	run(t, dir, env, "go", "mod", "init", "example.com/consumer")
	run(t, dir, env, "go", "get", m.path+"@"+version)
	run(t, dir, env, "go", "mod", "tidy")
	run(t, dir, env, "go", "build", "-o", "consumer", ".")
	require.Regexp(t, "^held: ", run(t, dir, nil, filepath.Join(dir, "consumer"), endpoint))

	linked := run(t, dir, nil, "go", "version", "-m", "consumer")
	require.Regexp(t, `(?m)^\tdep\t`+m.path+`\t`+version+`\t`, linked)
	all := strings.Fields(run(t, dir, env, "go", "list", "-m", "-f", "{{.Path}}@{{.Version}}", "all"))
	t.Logf("%d MB; modules in the program:\n%s%d modules in all: %s", size(t, filepath.Join(dir, "consumer"))/1e6, linked, len(all), all)
}

func size(t *testing.T, file string) int64 {
	info, err := os.Stat(file)
	require.NoError(t, err)
	return info.Size()
}

// run returns what a command prints.
func run(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%v\n%s%s", cmd, out, &stderr)
	return string(out)
}

func TestEachModuleIsReleasedOrNot(t *testing.T) {
	modules, err := released("..")
	require.NoError(t, err)
	require.Equal(t, rootPath, modules[0].path, "all others require the root")
	for _, dir := range unreleased {
		_, err := os.Stat(filepath.Join("..", dir, "go.mod"))
		require.NoError(t, err, "%s is no module", dir)
	}
	api, err := os.ReadFile("../docs/api-modules.txt")
	require.NoError(t, err)
	for _, m := range modules {
		require.False(t, slices.Contains(unreleased, m.dir))
		if m.dir != "." && m.dir != "cmd/etcdlock" {
			require.Contains(t, string(api), "// import \""+m.path+"\"\n", "api_test.go has no package of the module")
		}
	}
}

func TestWhatAReleasedModuleMustNotHave(t *testing.T) {
	root := parsed(t, ".", "module "+rootPath)
	other := parsed(t, "other", "module "+rootPath+"/other\nrequire "+rootPath+" v0.1.0\nrequire "+rootPath+"/test v0.0.0\n"+
		"replace "+rootPath+" => ..\nexclude example.com/x v1.0.0\n")
	require.Empty(t, root.faults([]module{root, other}, "v0.1.0"))
	require.Equal(t, []string{
		"replaces " + rootPath,
		"excludes example.com/x@v1.0.0",
		"requires " + rootPath + "@v0.1.0, not v0.2.0",
		"requires " + rootPath + "/test, which is not released",
	}, other.faults([]module{root, other}, "v0.2.0"))
}

func TestTheOrderOfTags(t *testing.T) {
	root := parsed(t, ".", "module "+rootPath)
	metrics := parsed(t, "metrics", "module "+rootPath+"/metrics\nrequire "+rootPath+" v0.0.0")
	command := parsed(t, "cmd", "module "+rootPath+"/cmd\nrequire "+rootPath+"/metrics v0.0.0")
	ordered, err := inOrder([]module{command, metrics, root})
	require.NoError(t, err)
	var tags []string
	for _, m := range ordered {
		tags = append(tags, m.tag("v0.1.0"))
	}
	require.Equal(t, []string{"v0.1.0", "metrics/v0.1.0", "cmd/v0.1.0"}, tags)

	circle := parsed(t, "metrics", "module "+rootPath+"/metrics\nrequire "+rootPath+"/cmd v0.0.0")
	_, err = inOrder([]module{command, circle, root})
	require.ErrorContains(t, err, "circle")
}

func TestTheChangelogOfARelease(t *testing.T) {
	file := filepath.Join(t.TempDir(), "CHANGELOG.md")
	require.NoError(t, os.WriteFile(file, []byte(changelog), 0o600))
	requireNext(t, "v0.1.0", changelog)
	day := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	require.NoError(t, startSection(file, "v0.1.0", day))
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "# Changelog\n\n## [Unreleased]\n\n## [0.1.0] - 2026-12-01\n\n- Something.\n", string(text))
	require.Equal(t, "- Something.", sectionOf(string(text), "0.1.0"))
	requireNext(t, "v0.1.1", string(text))
	require.ErrorContains(t, startSection(file, "v0.1.0", day), "has a section")
	require.ErrorContains(t, startSection(file, "v0.2.0", day), "nothing under")
}

func requireNext(t *testing.T, want, changelog string) {
	got, err := nextVersion(changelog)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// parsed is a module with the go.mod of a text.
func parsed(t *testing.T, dir, text string) module {
	file, err := modfile.Parse("go.mod", []byte(text), nil)
	require.NoError(t, err)
	return module{dir: dir, path: file.Module.Mod.Path, file: file}
}
