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
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// hardTexts are the words of hardWords, and further ones that an error, a log line or a help text has
// another word for: the queue, to release, to enter the queue.
var hardTexts = regexp.MustCompile(hardWords.String() + `|(?i)\b(everybody|nobody else|in line|lin(es?|ed|ing) up|let go|lets go|of ours)\b`)

// notTexts are directories without texts for users.
var notTexts = map[string]bool{"testdata": true, "results": true, "test": true, "bench": true}

// texts calls f for each string literal of a Go file that is a text, because it has a space.
func texts(t *testing.T, path string, f func(line int, text string)) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.Field:
			if n.Tag != nil {
				return false
			}
		case *ast.BasicLit:
			if text, err := strconv.Unquote(n.Value); n.Kind == token.STRING && err == nil && strings.Contains(strings.TrimSpace(text), " ") {
				f(set.Position(n.Pos()).Line, text)
			}
		}
		return true
	})
}

// hardTextsOf are the hard words in the texts of a file, each with its line.
func hardTextsOf(t *testing.T, path string) (found []string) {
	texts(t, path, func(line int, text string) {
		for _, word := range hardTexts.FindAllString(text, -1) {
			found = append(found, fmt.Sprintf("%s:%d: %q in %q", path, line, word, text))
		}
	})
	return found
}

// Errors, log lines and help texts name the holder, the waiter and the candidate.
func TestTheTextsOfProgramsArePlain(t *testing.T) {
	files := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		name := d.Name()
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != ".." && (strings.HasPrefix(name, ".") || notTexts[name]):
			return filepath.SkipDir
		case filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		files++
		for _, fault := range hardTextsOf(t, path) {
			t.Error(fault)
		}
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, files, 200)
}

// The log lines that docs/operating.md alerts on are those of the code.
func TestTheLogLinesToAlertOnAreWritten(t *testing.T) {
	page, err := os.ReadFile("operating.md")
	require.NoError(t, err)
	var all []string
	eachGoFile(t, func(path string) {
		if !strings.HasSuffix(path, "_test.go") {
			texts(t, path, func(_ int, text string) { all = append(all, text) })
		}
	})
	lines := regexp.MustCompile("log `([^`]+)`").FindAllStringSubmatch(string(page), -1)
	require.Greater(t, len(lines), 4)
	for _, line := range lines {
		require.True(t, slices.ContainsFunc(all, func(text string) bool { return strings.HasPrefix(text, line[1]) }),
			"docs/operating.md: no log line begins with %q", line[1])
	}
}

func TestAHardTextIsFound(t *testing.T) {
	found := hardTextsOf(t, filepath.Join("testdata", "texts.go"))
	require.Len(t, found, 3, "%v", found)
	require.Contains(t, found[0], `texts.go:8: "somebody" in "locked by somebody"`)
	require.Contains(t, found[1], `texts.go:9: "in line" in "place %d in line"`)
	require.Contains(t, found[2], `texts.go:12: "who" in`)
}
