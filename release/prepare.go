package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	modulepath "golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// prepare makes two commits on top of HEAD, which it expects in a clean checkout.
//
// The first one is to be tagged: its released modules require each other at the version, replace
// nothing, and have the checksums of each other. In the second one they replace each other by the
// checkout again, as development needs it, and mixed fleets are tested with the release. Both belong
// on the main branch: a pseudo-version of a later commit is larger than the release only if the
// tagged commit is an ancestor.
func prepare(ctx context.Context, repo, version string, day time.Time) error {
	if semver.Canonical(version) != version || semver.Build(version) != "" {
		return fmt.Errorf("%q is not a version, such as v0.1.0", version)
	}
	if dirty, err := git(ctx, repo, "status", "--porcelain"); err != nil {
		return err
	} else if dirty != "" {
		return fmt.Errorf("the checkout has changes:\n%s", dirty)
	}
	modules, err := released(repo)
	if err != nil {
		return err
	}
	if err := startSection(filepath.Join(repo, "CHANGELOG.md"), version, day); err != nil {
		return err
	}
	before := make(map[string][]byte) // by file
	for _, m := range modules {
		for _, file := range []string{m.goMod(repo), m.goSum(repo)} {
			if before[file], err = os.ReadFile(file); err != nil {
				return err
			}
		}
	}
	if err := writeVersions(ctx, repo, modules, version); err != nil {
		return err
	}
	if _, err := git(ctx, repo, "commit", "--quiet", "--all", "--message", "Release "+version); err != nil {
		return err
	}
	if err := verify(ctx, repo, version); err != nil {
		return err
	}
	return develop(ctx, repo, before, version)
}

// writeVersions makes the modules require each other at the version, with checksums, and replace
// nothing. A module's checksum does not depend on those that require it, so one pass in order does.
func writeVersions(ctx context.Context, repo string, modules []module, version string) error {
	sums := make(map[string]string) // lines of go.sum, by module path
	for _, m := range modules {
		for _, r := range slices.Clone(m.file.Replace) {
			if !contains(modules, module{path: r.Old.Path}) {
				return fmt.Errorf("%s/go.mod replaces %s: release that first", m.dir, r.Old.Path)
			}
			if err := m.file.DropReplace(r.Old.Path, r.Old.Version); err != nil {
				return err
			}
		}
		var lines string
		for _, s := range m.siblings(modules) {
			if err := m.file.AddRequire(s.path, version); err != nil {
				return err
			}
			lines += sums[s.path]
		}
		if err := writeGoMod(repo, m); err != nil {
			return err
		}
		if err := addSums(m.goSum(repo), lines); err != nil {
			return err
		}
		tree, err := treeOf(ctx, repo)
		if err != nil {
			return err
		}
		if sums[m.path], err = sumLines(ctx, repo, m, version, tree); err != nil {
			return err
		}
	}
	return nil
}

// develop makes the commit after a release. The modules replace each other again, and require the
// released version, so that a program that takes a module from the main branch finds its siblings.
func develop(ctx context.Context, repo string, before map[string][]byte, version string) error {
	for file, text := range before {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			return err
		}
	}
	modules, err := released(repo)
	if err != nil {
		return err
	}
	for _, m := range modules {
		for _, s := range m.siblings(modules) {
			if err := m.file.AddRequire(s.path, version); err != nil {
				return err
			}
		}
		if err := writeGoMod(repo, m); err != nil {
			return err
		}
	}
	if err := pin(ctx, repo); err != nil {
		return err
	}
	_, err = git(ctx, repo, "commit", "--quiet", "--all", "--message", "Development after "+version)
	return err
}

// pinFile names the revision that later ones are tested with in one fleet.
const pinFile = "test/mixed/revisions_test.go"

var pinned = regexp.MustCompile(`(pinnedRevision = ")[0-9a-f]{40}(")`)

// pin makes the last commit the one that later ones have to get on with.
func pin(ctx context.Context, repo string) error {
	file := filepath.Join(repo, filepath.FromSlash(pinFile))
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, err := git(ctx, repo, "rev-parse", "HEAD")
	if err != nil {
		return err
	}
	if !pinned.Match(text) {
		return fmt.Errorf("%s has no pinnedRevision", pinFile)
	}
	changed := pinned.ReplaceAllString(string(text), "${1}"+strings.TrimSpace(head)+"${2}")
	return os.WriteFile(file, []byte(changed), 0o600)
}

func writeGoMod(repo string, m module) error {
	m.file.Cleanup()
	text, err := m.file.Format()
	if err != nil {
		return err
	}
	return os.WriteFile(m.goMod(repo), text, 0o600)
}

// addSums adds lines to a go.sum, in the order of the go command.
func addSums(file, lines string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var of []modulepath.Version
	sums := make(map[modulepath.Version]string)
	for line := range strings.Lines(string(text) + lines) {
		f := strings.Fields(line)
		if len(f) != 3 {
			return fmt.Errorf("%s: a line that is no checksum: %s", file, line)
		}
		m := modulepath.Version{Path: f[0], Version: f[1]}
		of, sums[m] = append(of, m), line
	}
	modulepath.Sort(of)
	var all strings.Builder
	for _, m := range of {
		all.WriteString(sums[m])
	}
	return os.WriteFile(file, []byte(all.String()), 0o600)
}

var sectionHead = regexp.MustCompile(`(?m)^## \[Unreleased\]\n`)

// startSection makes a section of the version out of "Unreleased" in a changelog.
func startSection(file, version string, day time.Time) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head := fmt.Sprintf("## [%s] - %s\n", strings.TrimPrefix(version, "v"), day.Format(time.DateOnly))
	if strings.Contains(string(text), strings.Fields(head)[1]) {
		return fmt.Errorf("CHANGELOG.md has a section of %s", version)
	}
	if notes := sectionOf(string(text), "Unreleased"); strings.TrimSpace(notes) == "" {
		return errors.New(`CHANGELOG.md has nothing under "Unreleased"`)
	}
	changed := sectionHead.ReplaceAllString(string(text), "## [Unreleased]\n\n"+head)
	return os.WriteFile(file, []byte(changed), 0o600)
}

// sectionOf returns what a changelog says of a version, and nothing if it has no such section.
func sectionOf(changelog, version string) string {
	_, rest, _ := strings.Cut(changelog, "\n## ["+version+"]")
	_, rest, _ = strings.Cut(rest, "\n")
	section, _, _ := strings.Cut(rest, "\n## [")
	return strings.TrimSpace(section)
}

var versionHead = regexp.MustCompile(`(?m)^## \[(\d+)\.(\d+)\.(\d+)\]`)

// nextVersion is the patch release after the last version of a changelog, or the first release.
func nextVersion(changelog string) (string, error) {
	last := versionHead.FindStringSubmatch(changelog)
	if last == nil {
		return "v0.1.0", nil
	}
	patch, err := strconv.Atoi(last[3])
	return fmt.Sprintf("v%s.%s.%d", last[1], last[2], patch+1), err
}

// verify checks that the last commit, which is checked out, can be tagged as a version.
func verify(ctx context.Context, repo, version string) error {
	modules, err := released(repo)
	if err != nil {
		return err
	}
	changelog, err := os.ReadFile(filepath.Join(repo, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	var found []string
	if sectionOf(string(changelog), strings.TrimPrefix(version, "v")) == "" {
		found = append(found, "CHANGELOG.md has no section of "+version)
	}
	for _, m := range modules {
		for _, fault := range m.faults(modules, version) {
			found = append(found, path.Join(m.dir, "go.mod")+" "+fault)
		}
		have, err := os.ReadFile(m.goSum(repo))
		if err != nil {
			return err
		}
		for _, s := range m.siblings(modules) {
			want, err := sumLines(ctx, repo, s, version, "HEAD")
			if err != nil {
				return err
			}
			if !strings.Contains(string(have), want) {
				found = append(found, path.Join(m.dir, "go.sum")+" has another checksum of "+s.path+" than:\n"+want)
			}
		}
	}
	if len(found) > 0 {
		return fmt.Errorf("this is no release %s:\n%s", version, strings.Join(found, "\n"))
	}
	return nil
}
