package main

import (
	archivezip "archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing/fstest"
	"time"

	modulepath "golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/zip"
)

// writeProxy writes the released modules of HEAD into a directory that serves as a module proxy:
// GOPROXY=file://DIRECTORY.
func writeProxy(ctx context.Context, repo, version, dir string) error {
	modules, err := released(repo)
	if err != nil {
		return err
	}
	for _, m := range modules {
		escaped, err := modulepath.EscapePath(m.path)
		if err != nil {
			return err
		}
		at := filepath.Join(dir, filepath.FromSlash(escaped), "@v")
		if err := os.MkdirAll(at, 0o755); err != nil { //nolint:gosec // as other files of a proxy
			return err
		}
		goMod, err := os.ReadFile(m.goMod(repo))
		if err != nil {
			return err
		}
		var archive bytes.Buffer
		if err := writeZip(ctx, &archive, repo, m, version, "HEAD"); err != nil {
			return err
		}
		info, err := json.Marshal(map[string]any{"Version": version, "Time": time.Now().UTC().Truncate(time.Second)})
		if err != nil {
			return err
		}
		for name, text := range map[string][]byte{
			"list": []byte(version + "\n"), version + ".info": info, version + ".mod": goMod, version + ".zip": archive.Bytes(),
		} {
			if err := os.WriteFile(filepath.Join(at, name), text, 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeZip writes the archive of a module as a module proxy makes it: from git, without the modules
// inside, and with the LICENSE of the repository if it has none of its own.
func writeZip(ctx context.Context, w io.Writer, repo string, m module, version, revision string) error {
	id := modulepath.Version{Path: m.path, Version: version}
	if m.dir == "." {
		return zip.CreateFromVCS(w, id, repo, revision, "")
	}
	var own bytes.Buffer
	if err := zip.CreateFromVCS(&own, id, repo, revision, m.dir); err != nil {
		return err
	}
	archive, err := archivezip.NewReader(bytes.NewReader(own.Bytes()), int64(own.Len()))
	if err != nil {
		return err
	}
	prefix := id.String() + "/"
	var files []zip.File
	for _, f := range archive.File {
		if f.Name == prefix+license {
			_, err := w.Write(own.Bytes())
			return err
		}
		files = append(files, archived{f, strings.TrimPrefix(f.Name, prefix)})
	}
	text, err := git(ctx, repo, "show", revision+":"+license)
	if err != nil {
		return err
	}
	return zip.Create(w, id, append(files, textFile{license, text}))
}

const license = "LICENSE"

// archived is a file of an archive under its path in the module.
type archived struct {
	*archivezip.File
	path string
}

func (f archived) Path() string                { return f.path }
func (f archived) Lstat() (fs.FileInfo, error) { return f.FileInfo(), nil }

// textFile is a file that is in memory.
type textFile struct{ path, text string }

func (f textFile) Path() string { return f.path }
func (f textFile) Open() (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(f.text)), nil
}

func (f textFile) Lstat() (fs.FileInfo, error) {
	dir := fstest.MapFS{f.path: {Data: []byte(f.text), Mode: 0o644}}
	return fs.Stat(dir, f.path)
}

// sumLines are the lines of go.sum for a module in a revision.
func sumLines(ctx context.Context, repo string, m module, version, revision string) (string, error) {
	archive, err := os.CreateTemp("", "etcdlock-*.zip")
	if err != nil {
		return "", err
	}
	defer os.Remove(archive.Name())
	defer archive.Close()
	if err := writeZip(ctx, archive, repo, m, version, revision); err != nil {
		return "", fmt.Errorf("the archive of %s: %w", m.path, err)
	}
	all, err := dirhash.HashZip(archive.Name(), dirhash.Hash1)
	if err != nil {
		return "", err
	}
	goMod, err := git(ctx, repo, "show", revision+":"+path.Join(m.dir, "go.mod"))
	if err != nil {
		return "", err
	}
	mod, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(goMod)), nil
	})
	return fmt.Sprintf("%s %s %s\n%s %s/go.mod %s\n", m.path, version, all, m.path, version, mod), err
}

// treeOf is the git tree of the checkout, of files that git knows or does not ignore.
func treeOf(ctx context.Context, repo string) (string, error) {
	if _, err := git(ctx, repo, "add", "--all"); err != nil {
		return "", err
	}
	tree, err := git(ctx, repo, "write-tree")
	return strings.TrimSpace(tree), err
}

// git returns what git prints.
func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("git %s: %w\n%s", args[0], err, stderr.String())
	}
	return string(out), err
}
