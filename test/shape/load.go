package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// module is a Go module, with its packages parsed and type-checked.
type module struct {
	dir      string
	fset     *token.FileSet
	packages []*pkg // sorted by import path
}

// pkg is a package of the module. files are those of the package proper, without tests.
type pkg struct {
	listed
	name  string // import path within the module; "." for the root package
	files []*ast.File
	types *types.Package
	info  *types.Info
}

// listed is what the go command tells about a package.
type listed struct {
	Dir, ImportPath, Export            string
	GoFiles, TestGoFiles, XTestGoFiles []string
	Imports, TestImports, XTestImports []string
	Standard                           bool
	Module                             *struct {
		Path string
		Main bool
	}
}

// load type-checks every package of the module in dir. It builds what they import.
func load(dir string) (*module, error) {
	list := exec.Command("go", "list", "-export", "-deps",
		"-json=Dir,ImportPath,Export,GoFiles,TestGoFiles,XTestGoFiles,Imports,TestImports,XTestImports,Standard,Module", "./...")
	list.Dir = dir
	list.Env = append(os.Environ(), "GOWORK=off")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	m := &module{dir: dir, fset: token.NewFileSet()}
	imports := m.newImports()
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var l listed
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("output of go list: %w", err)
		}
		if l.Module == nil || !l.Module.Main {
			imports.exports[l.ImportPath] = l.Export
			continue
		}
		// A package comes after what it imports.
		p, err := m.check(l, imports)
		if err != nil {
			return nil, err
		}
		imports.checked[l.ImportPath] = p.types
		m.packages = append(m.packages, p)
	}
	if len(m.packages) == 0 {
		return nil, fmt.Errorf("no packages in %s", dir)
	}
	sortBy(m.packages, func(p *pkg) string { return p.name })
	return m, nil
}

func (m *module) check(l listed, imports *imports) (*pkg, error) {
	p := &pkg{listed: l, name: strings.TrimPrefix(strings.TrimPrefix(l.ImportPath, l.Module.Path), "/")}
	if p.name == "" {
		p.name = "."
	}
	for _, name := range l.GoFiles {
		f, err := parser.ParseFile(m.fset, filepath.Join(l.Dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		p.files = append(p.files, f)
	}
	p.info = &types.Info{
		Defs:       make(map[*ast.Ident]types.Object),
		Uses:       make(map[*ast.Ident]types.Object),
		Selections: make(map[*ast.SelectorExpr]*types.Selection),
		Types:      make(map[ast.Expr]types.TypeAndValue),
	}
	var err error
	p.types, err = (&types.Config{Importer: imports}).Check(l.ImportPath, m.fset, p.files, p.info)
	return p, err
}

// file returns the name of the file that holds pos, within its package.
func (m *module) file(pos token.Pos) string { return filepath.Base(m.fset.Position(pos).Filename) }

// imports gives the module's packages as they were checked from source, so that a field
// is the same object in each package that uses it, and all others from export data.
type imports struct {
	checked map[string]*types.Package
	exports map[string]string // import path -> file
	others  types.Importer
}

func (m *module) newImports() *imports {
	i := &imports{checked: make(map[string]*types.Package), exports: make(map[string]string)}
	i.others = importer.ForCompiler(m.fset, "gc", func(path string) (io.ReadCloser, error) {
		file := i.exports[path]
		if file == "" {
			return nil, fmt.Errorf("no export data for %s", path)
		}
		return os.Open(file)
	})
	return i
}

func (i *imports) Import(path string) (*types.Package, error) {
	if p := i.checked[path]; p != nil {
		return p, nil
	}
	return i.others.Import(path)
}
