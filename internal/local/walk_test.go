package local

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// lists are the fields that have a member for each hold, name or local queue of a table.
var lists = map[string]bool{"byName": true, "all": true, "readers": true, "noted": true, "found": true}

// Package roster walks such lists, and has the mutex for roster.Batch members at a time. No function
// of the table walks one of them by itself.
func TestNoFunctionOfTheTableWalksAllLocalQueuesOrHolds(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	walks := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, file, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.RangeStmt:
				ast.Inspect(n.X, func(x ast.Node) bool {
					if field, ok := x.(*ast.SelectorExpr); ok {
						require.False(t, lists[field.Sel.Name], "%v: a loop over Table.%s", fset.Position(n.Pos()), field.Sel.Name)
					}
					return true
				})
			case *ast.SelectorExpr:
				if n.Sel.Name == "Walk" {
					walks++
				}
			}
			return true
		})
	}
	require.Positive(t, walks)
}
