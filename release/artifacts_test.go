package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"
)

// artifacts returns what `make release-artifacts` has built, and of which version that is.
func artifacts(t *testing.T) (dist, version string) {
	dist, version = os.Getenv("ETCDLOCK_DIST"), os.Getenv("ETCDLOCK_DIST_VERSION")
	if dist == "" {
		t.Skip("only `make release-artifacts` has artifacts")
	}
	return dist, version
}

// one returns the only file that matches.
func one(t *testing.T, dist, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dist, pattern))
	require.NoError(t, err)
	require.Len(t, found, 1, pattern)
	return found[0]
}

func TestDistPrograms(t *testing.T) {
	dist, version := artifacts(t)
	programs, err := filepath.Glob(filepath.Join(dist, "etcdlock_*", "etcdlock*"))
	require.NoError(t, err)
	require.Len(t, programs, 7)
	for _, program := range programs {
		built := run(t, ".", nil, "go", "version", "-m", program)
		require.Contains(t, built, "\tmod\t"+rootPath+"/cmd/etcdlock\t"+version+"\t")
		require.Contains(t, built, "\tdep\t"+rootPath+"\t"+version+"\th1:", "the root by its version")
		require.NotContains(t, built, "\t=>\t")
		t.Logf("%s: %d MB", filepath.Base(filepath.Dir(program)), size(t, program)/1e6)
	}
	program := one(t, dist, "etcdlock_linux_amd64*/etcdlock")
	require.Equal(t, "etcdlock version "+version+"\n", run(t, ".", nil, program, "version"))
}

func TestDistChecksums(t *testing.T) {
	dist, _ := artifacts(t)
	checked := run(t, dist, nil, "sha256sum", "--check", "checksums.txt")
	require.Equal(t, 7, strings.Count(checked, ".tar.gz: OK\n")+strings.Count(checked, ".zip: OK\n"))
	require.Equal(t, 3, strings.Count(checked, ".deb: OK\n"))
	require.Equal(t, 3, strings.Count(checked, ".rpm: OK\n"))
	require.Equal(t, 7, strings.Count(checked, ".cdx.json: OK\n"))
	for line := range strings.Lines(checked) {
		name, _, _ := strings.Cut(line, ":")
		t.Logf("%s: %.1f MB", name, float64(size(t, filepath.Join(dist, name)))/1e6)
	}
}

func TestDistArchives(t *testing.T) {
	dist, _ := artifacts(t)
	archives, err := filepath.Glob(filepath.Join(dist, "*.tar.gz"))
	require.NoError(t, err)
	require.Len(t, archives, 6)
	for _, archive := range archives {
		requireFiles(t, archive, tarNames(t, archive), "etcdlock")
	}
	archive := one(t, dist, "*_windows_amd64.zip")
	r, err := zip.OpenReader(archive)
	require.NoError(t, err)
	defer r.Close()
	var names []string
	for _, f := range r.File {
		names = append(names, f.Name)
	}
	requireFiles(t, archive, names, "etcdlock.exe")
}

func requireFiles(t *testing.T, archive string, names []string, program string) {
	name := filepath.Base(archive)
	top := strings.TrimSuffix(strings.TrimSuffix(name, ".tar.gz"), ".zip")
	for _, want := range []string{
		program, "LICENSE", "CHANGELOG.md", "man/etcdlock.1", "man/etcdlock-lock.1", "contrib/etcdlock-elect.service",
		"completions/etcdlock.bash", "completions/_etcdlock", "completions/etcdlock.fish",
	} {
		require.Contains(t, names, top+"/"+want, name)
	}
}

func tarNames(t *testing.T, archive string) []string {
	f, err := os.Open(archive)
	require.NoError(t, err)
	defer f.Close()
	unpacked, err := gzip.NewReader(f)
	require.NoError(t, err)
	var names []string
	for files := tar.NewReader(unpacked); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		require.NoError(t, err)
		names = append(names, h.Name)
	}
}

func TestDistBillsOfMaterials(t *testing.T) {
	dist, version := artifacts(t)
	bill, err := os.ReadFile(one(t, dist, "*_linux_amd64.cdx.json"))
	require.NoError(t, err)
	for _, module := range []string{rootPath + "@" + version, "go.etcd.io/etcd/client/v3@v3", "google.golang.org/grpc@v1"} {
		require.Contains(t, string(bill), "pkg:golang/"+module)
	}
}

// The package is installed below a directory, used, and purged: nothing of it stays.
func TestDistDebianPackage(t *testing.T) {
	dist, version := artifacts(t)
	root := t.TempDir()
	require.NoError(t, os.Chmod(root, 0o755)) //nolint:gosec // as a root directory is
	for _, dir := range []string{"info", "updates"} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, "var/lib/dpkg", dir), 0o700))
	}
	require.NoError(t, os.WriteFile(filepath.Join(root, "var/lib/dpkg/status"), nil, 0o600))
	deb := one(t, dist, "*_linux_amd64.deb")
	asRoot(t, "dpkg", "--root="+root, "--install", deb)

	require.Equal(t, "etcdlock version "+version+"\n", run(t, root, nil, filepath.Join(root, "usr/bin/etcdlock"), "version"))
	manual := run(t, root, []string{"MANPATH=" + filepath.Join(root, "usr/share/man"), "MANPAGER=cat"}, "man", "etcdlock-lock")
	require.Contains(t, manual, "etcdlock lock")
	completion := filepath.Join(root, "usr/share/bash-completion/completions/etcdlock")
	require.Contains(t, run(t, root, nil, "bash", "-c", "source "+completion+"; complete -p etcdlock"), "__start_etcdlock")
	verifyUnit(t, root)
	t.Log(run(t, root, nil, "dpkg-deb", "--info", deb), run(t, root, nil, "dpkg-deb", "--contents", deb))

	asRoot(t, "dpkg", "--root="+root, "--purge", "etcdlock")
	require.Empty(t, leftBelow(t, root))
}

// verifyUnit lets systemd read the example, with another program in place of the service.
func verifyUnit(t *testing.T, root string) {
	unit, err := os.ReadFile(filepath.Join(root, "usr/share/doc/etcdlock/examples/etcdlock-elect.service"))
	require.NoError(t, err)
	require.Contains(t, string(unit), "ExecStart=/usr/bin/etcdlock elect")
	here := regexp.MustCompile(`/usr/bin/etcdlock`).ReplaceAllLiteralString(string(unit), filepath.Join(root, "usr/bin/etcdlock"))
	copied := filepath.Join(t.TempDir(), "etcdlock-elect.service")
	require.NoError(t, os.WriteFile(copied, []byte(here), 0o600))
	cmd := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", "--recursive-errors=no", copied)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Empty(t, string(out))
}

// asRoot runs a command as root, if need be only as that of a namespace.
func asRoot(t *testing.T, command ...string) {
	if os.Getuid() != 0 {
		command = append([]string{"unshare", "--map-root-user"}, command...)
	}
	run(t, ".", []string{"PATH=/usr/sbin:/sbin:" + os.Getenv("PATH")}, command[0], command[1:]...)
}

// leftBelow lists the files outside of dpkg's own directory.
func leftBelow(t *testing.T, root string) []string {
	var left []string
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path == filepath.Join(root, "var"):
			return fs.SkipDir
		case !d.IsDir():
			left = append(left, path)
		}
		return nil
	}))
	return left
}

func TestDistRPM(t *testing.T) {
	dist, version := artifacts(t)
	pkg := one(t, dist, "*_linux_amd64.rpm")
	about := run(t, dist, nil, "rpm", "--query", "--package", "--info", "--list", "--requires", pkg)
	for _, want := range []string{
		"Version     : " + strings.TrimPrefix(version, "v") + "\n", "License     : Apache-2.0\n", "/usr/bin/etcdlock\n",
		"/usr/share/man/man1/etcdlock-lock.1.gz\n", "/usr/share/bash-completion/completions/etcdlock\n", "/usr/share/licenses/etcdlock/LICENSE\n",
	} {
		require.Contains(t, about, want)
	}
}

// The image has what its manifests say, and its program runs.
func TestDistImage(t *testing.T) {
	dist, version := artifacts(t)
	path, err := layout.FromPath(filepath.Join(dist, "image"))
	require.NoError(t, err)
	all, err := path.ImageIndex()
	require.NoError(t, err)
	require.NoError(t, validate.Index(all))
	outer, err := all.IndexManifest()
	require.NoError(t, err)
	require.Len(t, outer.Manifests, 1)
	index, err := all.ImageIndex(outer.Manifests[0].Digest)
	require.NoError(t, err)
	inner, err := index.IndexManifest()
	require.NoError(t, err)
	var platforms []string
	for _, m := range inner.Manifests {
		platforms = append(platforms, m.Platform.String())
	}
	require.ElementsMatch(t, []string{"linux/amd64", "linux/arm64", "linux/386"}, platforms)

	for _, m := range inner.Manifests {
		if m.Platform.Architecture == "amd64" {
			image, err := index.Image(m.Digest)
			require.NoError(t, err)
			requireProgram(t, image, version)
		}
	}
	t.Logf("digest %s", outer.Manifests[0].Digest)
}

// requireProgram runs the program of an image, outside of it.
func requireProgram(t *testing.T, image v1.Image, version string) {
	config, err := image.ConfigFile()
	require.NoError(t, err)
	require.Equal(t, []string{"/etcdlock"}, config.Config.Entrypoint)
	require.Equal(t, "65532:65532", config.Config.User)
	files := mutate.Extract(image)
	defer files.Close()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "tar", "-x", "-C", dir)
	cmd.Stdin = files
	require.NoError(t, cmd.Run())
	require.Equal(t, "etcdlock version "+version+"\n", run(t, dir, nil, filepath.Join(dir, "etcdlock"), "version"))
	require.FileExists(t, filepath.Join(dir, authorities))
	t.Logf("%d MB", size(t, filepath.Join(dir, "etcdlock"))/1e6)
}
