package docs

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// machine is the edges of a state machine, as "from -> to".
type machine []string

// tablesOfTheCode finds each states.Table in the root module, by its name.
func tablesOfTheCode(t *testing.T) map[string]machine {
	found := make(map[string]machine)
	eachGoFile(t, func(path string) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.Inspect(f, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			index, ok := lit.Type.(*ast.IndexExpr)
			if !ok {
				return true
			}
			if of, ok := index.X.(*ast.SelectorExpr); !ok || of.Sel.Name != "Table" {
				return true
			}
			name, edges := edgesOf(t, lit)
			found[name] = edges
			return false
		})
	})
	return found
}

// edgesOf reads the literal of a states.Table.
func edgesOf(t *testing.T, lit *ast.CompositeLit) (name string, edges machine) {
	for _, field := range lit.Elts {
		pair := field.(*ast.KeyValueExpr)
		switch pair.Key.(*ast.Ident).Name {
		case "Of":
			name = strings.Trim(pair.Value.(*ast.BasicLit).Value, `"`)
		case "Edges":
			for _, row := range pair.Value.(*ast.CompositeLit).Elts {
				from := row.(*ast.KeyValueExpr)
				for _, to := range from.Value.(*ast.CompositeLit).Elts {
					edges = append(edges, fmt.Sprintf("%s -> %s", state(t, from.Key), state(t, to)))
				}
			}
		}
	}
	slices.Sort(edges)
	return name, edges
}

// state is the name of a state as the page writes it, such as "connected" for StateConnected.
func state(t *testing.T, e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		name := e.Name
		for _, prefix := range []string{"State", "Role", "driver"} {
			name = strings.TrimPrefix(name, prefix)
		}
		return strings.ToLower(name)
	case *ast.SelectorExpr:
		return state(t, e.Sel)
	case *ast.BasicLit:
		return e.Value
	}
	require.Failf(t, "a state is neither a constant nor a number", "%T", e)
	return ""
}

// tablesOfThePage reads the table below each heading "The states of the ...".
func tablesOfThePage(page string) map[string]machine {
	found := make(map[string]machine)
	for _, section := range strings.Split(page, "\n### The states of the ")[1:] {
		name, text, _ := strings.Cut(section, "\n")
		var edges machine
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "#") {
				break
			}
			cells := strings.Split(line, "|")
			if len(cells) < 5 || strings.HasPrefix(cells[1], "---") || strings.TrimSpace(cells[1]) == "from" {
				continue
			}
			for _, from := range strings.Split(cells[1], ",") {
				for _, to := range strings.Split(cells[2], ",") {
					edges = append(edges, strings.TrimSpace(from)+" -> "+strings.TrimSpace(to))
				}
			}
		}
		slices.Sort(edges)
		found[name] = edges
	}
	return found
}

// eachGoFile visits the Go files of the root module.
func eachGoFile(t *testing.T, visit func(path string)) {
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "..":
			if name := d.Name(); strings.HasPrefix(name, ".") || name == "testdata" {
				return filepath.SkipDir
			}
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
				return filepath.SkipDir // another module
			}
		case filepath.Ext(path) == ".go":
			visit(path)
		}
		return nil
	})
	require.NoError(t, err)
}

func design(t *testing.T) string {
	text, err := os.ReadFile("design.md")
	require.NoError(t, err)
	return string(text)
}

// The tables of the page are those of the code.
func TestTheStateMachinesOfTheDesignAreThoseOfTheCode(t *testing.T) {
	code, page := tablesOfTheCode(t), tablesOfThePage(design(t))
	require.GreaterOrEqual(t, len(code), 3)
	for name, edges := range code {
		require.Equal(t, edges, page[name], "docs/design.md, the states of the %s", name)
	}
	for name := range page {
		require.Contains(t, code, name, "docs/design.md has a state machine that the code does not have")
	}
}

// Each example of the page stands in the file that the comment above it names.
func TestTheExamplesOfTheDesignAreGolden(t *testing.T) {
	examples := regexp.MustCompile("(?m)^<!-- (\\S+) -->\n```text\n((?s:.*?))```$").FindAllStringSubmatch(design(t), -1)
	require.Greater(t, len(examples), 5)
	for _, e := range examples {
		file, err := os.ReadFile(filepath.FromSlash(e[1]))
		require.NoError(t, err)
		text := strings.ReplaceAll(string(file), "//\t", "")
		require.Contains(t, text, e[2], "docs/design.md has an example that is not in %s", e[1])
	}
}

// The tests and packages that the page names exist.
func TestTheDesignNamesWhatExists(t *testing.T) {
	page := design(t)
	for _, match := range regexp.MustCompile("`(internal/\\w+)`").FindAllStringSubmatch(page, -1) {
		_, err := os.Stat(filepath.Join("..", filepath.FromSlash(match[1])))
		require.NoError(t, err, "docs/design.md")
	}
	declared := make(map[string]bool)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, match := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllStringSubmatch(string(text), -1) {
			declared[match[1]] = true
		}
		return err
	})
	require.NoError(t, err)
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(page, -1)
	require.Greater(t, len(named), 10)
	for _, match := range named {
		require.True(t, declared[match[1]], "docs/design.md: there is no %s", match[1])
	}
}

// Each function of the traces is declared in its file. That they are what a run does is a test of the
// root, with the tag lockorder.
func TestTheFunctionsOfTheTracesExist(t *testing.T) {
	declared, anywhere := make(map[string]bool), make(map[string]bool)
	eachGoFile(t, func(path string) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		file := strings.TrimPrefix(strings.TrimPrefix(filepath.ToSlash(path), "../"), "internal/")
		for _, d := range f.Decls {
			if d, ok := d.(*ast.FuncDecl); ok {
				declared[file+" "+functionName(d)] = true
				anywhere[functionName(d)] = true
			}
		}
	})
	_, text, _ := strings.Cut(design(t), "\n## Traces\n")
	text, _, _ = strings.Cut(text, "\n## ")
	rows := regexp.MustCompile("(?m)^\\| \\w+: `([\\w.]+)`(?: \\d+)? \\| `([\\w.]+)` \\| `([\\w./]+)` \\| [^|]+ \\|$").FindAllStringSubmatch(text, -1)
	require.Greater(t, len(rows), 40)
	for _, row := range rows {
		require.True(t, anywhere[row[1]], "docs/design.md, traces: there is no %s", row[1])
		require.True(t, declared[row[3]+" "+row[2]], "docs/design.md, traces: there is no %s in %s", row[2], row[3])
	}
}

// functionName is the name of a function, with the type of its receiver.
func functionName(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return d.Name.Name
	}
	of := d.Recv.List[0].Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	if generic, ok := of.(*ast.IndexExpr); ok {
		of = generic.X
	}
	return of.(*ast.Ident).Name + "." + d.Name.Name
}

// The file map names each file of the engine, and no other.
func TestTheFileMapOfTheDesignIsComplete(t *testing.T) {
	_, text, _ := strings.Cut(design(t), "\n## File map\n")
	text, _, _ = strings.Cut(text, "\n## ")
	for dir, heading := range map[string]string{
		"..": "Root", "../internal/session": "internal/session", "../internal/local": "internal/local", "../internal/lockmgr": "internal/lockmgr", "../internal/queue": "internal/queue",
	} {
		_, section, found := strings.Cut(text, "\n### "+heading+": ")
		require.True(t, found, heading)
		section, _, _ = strings.Cut(section, "\n### ")
		var named, files []string
		for _, match := range regexp.MustCompile("`([a-z]+\\.go)`").FindAllStringSubmatch(section, -1) {
			named = append(named, match[1])
		}
		all, err := filepath.Glob(filepath.Join(filepath.FromSlash(dir), "*.go"))
		require.NoError(t, err)
		for _, path := range all {
			if !strings.HasSuffix(path, "_test.go") {
				files = append(files, filepath.Base(path))
			}
		}
		require.ElementsMatch(t, files, named, "docs/design.md, file map of %s", heading)
	}
}
