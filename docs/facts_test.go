package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A change that moves or renames one of these facts has to look at the row that it is in.
func TestTheFactsExist(t *testing.T) {
	text, err := os.ReadFile("facts.md")
	require.NoError(t, err)
	declared := make(map[string]map[string]bool) // by directory
	named := regexp.MustCompile("`([^`]*)`").FindAllStringSubmatch(string(text), -1)
	require.Greater(t, len(named), 100)
	for _, name := range named {
		dir, member := "..", name[1]
		if parts := strings.SplitN(member, ".", 3); len(parts) == 3 {
			dir, member = filepath.Join("..", "internal", parts[0]), parts[1]+"."+parts[2]
		}
		if declared[dir] == nil {
			declared[dir] = members(t, dir)
		}
		require.True(t, declared[dir][member], "docs/facts.md: there is no %s", name[1])
	}
}

func TestEachRowNamesFactsAndFunctions(t *testing.T) {
	text, err := os.ReadFile("facts.md")
	require.NoError(t, err)
	rows := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) < 2 || !strings.Contains(cells[1], "`") {
			continue
		}
		rows++
		require.Len(t, cells, 6, line)
		for _, cell := range cells[1:5] {
			require.NotEmpty(t, strings.TrimSpace(cell), line)
		}
		require.Contains(t, cells[2], "`", line)
	}
	require.Greater(t, rows, 30)
}

// members are the fields and methods of the types of a package, as "Type.member".
func members(t *testing.T, dir string) map[string]bool {
	all := make(map[string]bool)
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv != nil {
					all[receiver(n.Recv.List[0].Type)+"."+n.Name.Name] = true
				}
			case *ast.TypeSpec:
				if st, ok := n.Type.(*ast.StructType); ok {
					for _, field := range st.Fields.List {
						for _, name := range field.Names {
							all[n.Name.Name+"."+name.Name] = true
						}
					}
				}
			}
			return true
		})
	}
	return all
}

func receiver(e ast.Expr) string {
	if ptr, ok := e.(*ast.StarExpr); ok {
		e = ptr.X
	}
	if id, ok := e.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}
