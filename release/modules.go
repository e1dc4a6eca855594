package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

const rootPath = "github.com/etcdlock/etcdlock"

// unreleased are the modules of go.work that get no tag. Every other one is released.
var unreleased = []string{"bench", "examples", "examples/recipes", "mixin", "release", "test", "test/browser", "test/fence"}

// module is a released module.
type module struct {
	dir  string // in the repository, "." for the root
	path string
	file *modfile.File
}

// tag is the name of the tag of a version of the module.
func (m module) tag(version string) string { return path.Join(m.dir, version) }

func (m module) goMod(repo string) string { return filepath.Join(repo, m.dir, "go.mod") }
func (m module) goSum(repo string) string { return filepath.Join(repo, m.dir, "go.sum") }

// siblings are the released modules that the module requires, in any way.
func (m module) siblings(all []module) []module {
	var found []module
	for _, s := range all {
		if slices.ContainsFunc(m.file.Require, func(r *modfile.Require) bool { return r.Mod.Path == s.path }) {
			found = append(found, s)
		}
	}
	return found
}

// released returns the released modules of a repository. A module comes after all that it requires,
// which is the order of their tags.
func released(repo string) ([]module, error) {
	text, err := os.ReadFile(filepath.Join(repo, "go.work"))
	if err != nil {
		return nil, err
	}
	work, err := modfile.ParseWork("go.work", text, nil)
	if err != nil {
		return nil, err
	}
	var found []module
	for _, use := range work.Use {
		m := module{dir: path.Clean(use.Path)}
		if slices.Contains(unreleased, m.dir) {
			continue
		}
		text, err := os.ReadFile(m.goMod(repo))
		if err != nil {
			return nil, err
		}
		if m.file, err = modfile.Parse(path.Join(m.dir, "go.mod"), text, nil); err != nil {
			return nil, err
		}
		if m.path = m.file.Module.Mod.Path; m.path != path.Join(rootPath, m.dir) {
			return nil, fmt.Errorf("%s/go.mod: module %s cannot be found by its path", m.dir, m.path)
		}
		found = append(found, m)
	}
	return inOrder(found)
}

// inOrder puts each module behind those that it requires, and the first of go.work first otherwise.
func inOrder(modules []module) ([]module, error) {
	var ordered []module
	for len(ordered) < len(modules) {
		next := slices.IndexFunc(modules, func(m module) bool {
			return !contains(ordered, m) && !slices.ContainsFunc(m.siblings(modules), func(s module) bool { return !contains(ordered, s) })
		})
		if next < 0 {
			return nil, fmt.Errorf("the released modules require each other in a circle")
		}
		ordered = append(ordered, modules[next])
	}
	return ordered, nil
}

func contains(modules []module, m module) bool {
	return slices.ContainsFunc(modules, func(other module) bool { return other.path == m.path })
}

// faults are what keeps a module from being installed at a version.
func (m module) faults(all []module, version string) []string {
	var found []string
	for _, r := range m.file.Replace {
		found = append(found, fmt.Sprintf("replaces %s", r.Old.Path))
	}
	for _, e := range m.file.Exclude {
		found = append(found, fmt.Sprintf("excludes %s", e.Mod))
	}
	for _, r := range m.file.Require {
		switch {
		case r.Mod.Path != rootPath && !strings.HasPrefix(r.Mod.Path, rootPath+"/"):
		case !slices.ContainsFunc(all, func(s module) bool { return s.path == r.Mod.Path }):
			found = append(found, fmt.Sprintf("requires %s, which is not released", r.Mod.Path))
		case r.Mod.Version != version:
			found = append(found, fmt.Sprintf("requires %s, not %s", r.Mod, version))
		}
	}
	return found
}
