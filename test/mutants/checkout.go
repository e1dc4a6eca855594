package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// checkout is the source of the library, with its declarations and the names of its tests.
type checkout struct {
	root  string
	files map[string]string   // texts, by path from the root; without tests
	decls map[string][]decl   // by symbol; several where build constraints choose one
	tests map[string][]string // the directories of the tests, by the name of the function
}

// decl is a declaration: a function, a method, or one entry of a const, var or type
// declaration.
type decl struct {
	symbol   string // with the name of its package
	file     string
	from, to int       // offsets in the file
	function *function // nil for what is none, or cannot be called from itself
}

// function is what it takes to call a function from itself.
type function struct {
	name    int    // offset of the end of the name
	body    int    // offset after the opening brace
	call    string // with %s after the name
	results bool
}

// openCheckout reads the checkout around the working directory.
func openCheckout() (*checkout, error) {
	root, err := checkoutRoot()
	if err != nil {
		return nil, err
	}
	return readCheckout(root)
}

// checkoutRoot is the directory of the root module, looked for from here upwards.
func checkoutRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module github.com/etcdlock/etcdlock\n") {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no checkout of etcdlock around the working directory")
		}
		dir = parent
	}
}

// readCheckout reads all packages below root.
func readCheckout(root string) (*checkout, error) {
	c := &checkout{root: root, files: map[string]string{}, decls: map[string][]decl{}, tests: map[string][]string{}}
	return c, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && path != root && (name[0] == '.' || name[0] == '_' || name == "testdata"):
			return fs.SkipDir
		case d.IsDir() || filepath.Ext(name) != ".go":
			return nil
		}
		file, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return c.read(filepath.ToSlash(file), string(text))
	})
}

// read takes in one file.
func (c *checkout) read(file, text string) error {
	fset := token.NewFileSet()
	parsed, err := parser.ParseFile(fset, file, text, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	dir := filepath.ToSlash(filepath.Dir(file))
	if strings.HasSuffix(file, "_test.go") {
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
				c.tests[f.Name.Name] = append(c.tests[f.Name.Name], dir)
			}
		}
		return nil
	}
	if strings.HasPrefix(dir, "test/") {
		return nil // no part of the library; the list itself has all the texts
	}
	c.files[file] = text
	add := func(name string, n ast.Node) {
		offset := func(at token.Pos) int { return fset.Position(at).Offset }
		d := decl{parsed.Name.Name + "." + name, file, offset(n.Pos()), offset(n.End()), nil}
		if f, ok := n.(*ast.FuncDecl); ok {
			d.from = offset(f.Type.Func) // without its comment
			if call := callOf(f); call != "" {
				d.function = &function{offset(f.Name.End()), offset(f.Body.Lbrace) + 1, call, f.Type.Results != nil}
			}
		}
		c.decls[d.symbol] = append(c.decls[d.symbol], d)
		if byDir := dir + "." + name; byDir != d.symbol {
			c.decls[byDir] = append(c.decls[byDir], d)
		}
	}
	for _, d := range parsed.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			add(funcName(d), d)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					add(spec.Name.Name, spec)
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						add(name.Name, spec)
					}
				}
			}
		}
	}
	return nil
}

// funcName is Name, T.Name or (*T).Name, whatever type parameters T has.
func funcName(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return f.Name.Name
	}
	form := "%s.%s"
	t := f.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		form, t = "(*%s).%s", star.X
	}
	switch generic := t.(type) {
	case *ast.IndexExpr:
		t = generic.X
	case *ast.IndexListExpr:
		t = generic.X
	}
	return fmt.Sprintf(form, t.(*ast.Ident).Name, f.Name.Name)
}

// callOf is a call of a function with its own parameters; empty if it cannot be written.
func callOf(f *ast.FuncDecl) string {
	if f.Body == nil || f.Name.Name == "init" || f.Type.TypeParams != nil {
		return ""
	}
	call := f.Name.Name + "%s("
	if f.Recv != nil {
		if len(f.Recv.List[0].Names) == 0 || f.Recv.List[0].Names[0].Name == "_" {
			return ""
		}
		call = f.Recv.List[0].Names[0].Name + "." + call
	}
	for _, field := range f.Type.Params.List {
		if len(field.Names) == 0 {
			return ""
		}
		for _, name := range field.Names {
			if name.Name == "_" {
				return ""
			}
			call += name.Name
			if _, variadic := field.Type.(*ast.Ellipsis); variadic {
				call += "..."
			}
			call += ", "
		}
	}
	return call + ")"
}

// line is where an offset lies, as editors and compilers write it.
func (c *checkout) line(file string, offset int) string {
	return fmt.Sprintf("%s:%d", file, 1+strings.Count(c.files[file][:offset], "\n"))
}

// testDir is the directory of a test, from the root of the checkout.
func (c *checkout) testDir(name string) (string, error) {
	dirs := c.tests[name]
	switch len(slices.Compact(slices.Sorted(slices.Values(dirs)))) {
	case 1:
		return dirs[0], nil
	case 0:
		var most similar
		for other, dirs := range c.tests {
			most.consider(name, other, func() string { return other + " in " + dirs[0] })
		}
		return "", fmt.Errorf("no test %s; the nearest name is %s", name, most.what)
	default:
		return "", fmt.Errorf("tests named %s in %s: rename one", name, strings.Join(dirs, " and "))
	}
}
