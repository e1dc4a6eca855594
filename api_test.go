package etcdlock_test

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write what is seen as what is expected")

// The packages of the root module that programs import, and the file that has what they export.
var exported = []string{".", "etcdlocktest", "leaderhttp", "compat/concurrency", "fence", "fence/fencesql", "fence/fencehttp", "fence/fencegrpc"}

const exportedFile = "docs/api.txt"

// The same of the other modules.
var exportedOfModules = []string{"adapters/certmagic", "adapters/gocron", "lockui", "otel", "prometheus"}

const exportedOfModulesFile = "docs/api-modules.txt"

// Nothing that programs are written against changes unnoticed. After a change that is meant:
//
//	go test -run TestTheExportedAPI . -update
func TestTheExportedAPI(t *testing.T) {
	requireExported(t, exportedFile, exported)
}

func TestTheExportedAPIOfOtherModules(t *testing.T) {
	if _, err := os.Stat("adapters"); err != nil {
		t.Skip("a module archive holds the root module alone; run this in a checkout")
	}
	requireExported(t, exportedOfModulesFile, exportedOfModules)
}

func requireExported(t *testing.T, file string, dirs []string) {
	var all bytes.Buffer
	for _, dir := range dirs {
		writeExported(t, &all, dir)
	}
	if *update {
		require.NoError(t, os.WriteFile(file, all.Bytes(), 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), all.String(), "the exported API is not that of %s", file)
}

// writeExported writes the declarations that a package exports, without comments.
func writeExported(t *testing.T, out *bytes.Buffer, dir string) {
	fset := token.NewFileSet()
	var files []*ast.File
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		files = append(files, f)
	}
	// doc.NewFromFiles filters what is not exported, fields of structs included.
	pkg, err := doc.NewFromFiles(fset, files, rootModule+"/"+dir)
	require.NoError(t, err)

	var lines []string
	write := func(decl ast.Node) {
		var b strings.Builder
		require.NoError(t, (&printer.Config{Mode: printer.UseSpaces, Tabwidth: 4}).Fprint(&b, fset, decl))
		lines = append(lines, b.String())
	}
	functions := func(all []*doc.Func) {
		for _, f := range all {
			f.Decl.Doc, f.Decl.Body = nil, nil
			write(f.Decl)
		}
	}
	values := func(all []*doc.Value) {
		for _, v := range all {
			v.Decl.Doc = nil
			for _, spec := range v.Decl.Specs {
				s := spec.(*ast.ValueSpec)
				for _, name := range s.Names {
					if name.IsExported() {
						kind := ""
						if s.Type != nil {
							kind = fmt.Sprintf(" %s", written(t, fset, s.Type))
						}
						lines = append(lines, v.Decl.Tok.String()+" "+name.Name+kind)
					}
				}
			}
		}
	}
	values(pkg.Consts)
	values(pkg.Vars)
	functions(pkg.Funcs)
	for _, typ := range pkg.Types {
		typ.Decl.Doc = nil
		for _, spec := range typ.Decl.Specs {
			s := spec.(*ast.TypeSpec)
			s.Doc, s.Comment = nil, nil
			ast.Inspect(s, func(n ast.Node) bool {
				if field, ok := n.(*ast.Field); ok {
					field.Doc, field.Comment = nil, nil
				}
				return true
			})
		}
		write(typ.Decl)
		values(typ.Consts)
		values(typ.Vars)
		functions(typ.Funcs)
		functions(typ.Methods)
	}
	fmt.Fprintf(out, "package %s // import %q\n\n%s\n\n", pkg.Name, strings.TrimSuffix(rootModule+"/"+dir, "/."), strings.Join(lines, "\n"))
}

// written is an expression as it is written.
func written(t *testing.T, fset *token.FileSet, expr ast.Expr) string {
	var b strings.Builder
	require.NoError(t, printer.Fprint(&b, fset, expr))
	return b.String()
}
