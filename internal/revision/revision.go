// Package revision builds programs against another revision of the library, for benchmarks and tests
// with two revisions.
package revision

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ErrUnknown is returned if the checkout around the working directory does not contain a revision, as
// in a shallow clone, and if the directory is no checkout.
var ErrUnknown = errors.New("no such revision here")

// Commit is the commit that a revision names.
func Commit(ctx context.Context, rev string) (string, error) {
	out, err := command(ctx, ".", "git", "rev-parse", "--quiet", "--verify", rev+"^{commit}")
	if err != nil {
		return "", fmt.Errorf("%w: %s: %w", ErrUnknown, rev, err)
	}
	return strings.TrimSpace(out), nil
}

// Build builds a program twice: with the library of rev, and with that of the working tree. The
// program's source is that of the working tree in both, so it may use only what both revisions
// export. module is the directory of the program's module in the checkout, and program the directory
// in this module. All files are written below dir.
func Build(ctx context.Context, dir, rev, module, program string) (then, now string, err error) {
	commit, err := Commit(ctx, rev)
	if err != nil {
		return "", "", err
	}
	top, err := command(ctx, ".", "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return "", "", err
	}
	top = strings.TrimSpace(top)
	tree := filepath.Join(dir, "tree")
	if err := extract(ctx, top, commit, tree); err != nil {
		return "", "", err
	}
	if err := replaceProgram(filepath.Join(top, module, program), filepath.Join(tree, module, program)); err != nil {
		return "", "", err
	}
	then, now = filepath.Join(dir, "then"), filepath.Join(dir, "now")
	for binary, tree := range map[string]string{then: tree, now: top} {
		if _, err := command(ctx, filepath.Join(tree, module), "go", "build", "-o", binary, "./"+program); err != nil {
			return "", "", err
		}
	}
	return then, now, nil
}

// extract writes the files of a commit.
func extract(ctx context.Context, top, commit, to string) (err error) {
	cmd := exec.CommandContext(ctx, "git", "archive", "--format=tar", commit)
	cmd.Dir, cmd.Stderr = top, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_, _ = io.Copy(io.Discard, out) // git ends when all is read
		err = errors.Join(err, cmd.Wait())
	}()
	for files := tar.NewReader(out); ; {
		f, err := files.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case f.Typeflag != tar.TypeReg:
			continue
		case !filepath.IsLocal(f.Name):
			return fmt.Errorf("%s is outside of the archive", f.Name)
		}
		if err := write(filepath.Join(to, f.Name), files); err != nil {
			return err
		}
	}
}

func write(path string, from io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	text, err := io.ReadAll(from)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// replaceProgram puts the files of one directory into another one, in place of what it has.
func replaceProgram(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return os.CopyFS(to, os.DirFS(from))
}

func command(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%v: %w\n%s", cmd, err, stderr.String())
	}
	return string(out), err
}
