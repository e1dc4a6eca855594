package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	// The go command does not see that these tests read the library's source. With this
	// it runs them again when that has changed.
	_ "github.com/etcdlock/etcdlock"
)

// Whoever changes a rule's code is told at once that the list must follow.
func TestThePiecesAreStillInTheSource(t *testing.T) {
	root, err := checkoutRoot()
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(mutations), 15)
	rules := map[string]bool{}
	for _, m := range mutations {
		require.False(t, rules[m.takesOut], m.takesOut)
		rules[m.takesOut] = true
		require.NotEmpty(t, m.edits)
		files := map[string]bool{}
		for _, e := range m.edits {
			require.False(t, files[e.file], "one piece of a file: the overlay has one text for it")
			files[e.file] = true
			_, err := e.apply(root)
			require.NoError(t, err)
			require.NotEqual(t, e.from, e.to)
		}
		require.NotEmpty(t, m.tests)
		tests := testFiles(t, filepath.Join(root, m.in))
		for _, name := range m.tests {
			require.Equal(t, 1, strings.Count(tests, "\nfunc "+name+"("), "%s in %s", name, m.in)
		}
	}
}

// testFiles is the text of all test files of a package.
func testFiles(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	require.NoError(t, err)
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		all.Write(text)
	}
	return all.String()
}

func TestAPieceThatIsGoneOrAmbiguousIsAnError(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "x.go"), []byte("one two two"), 0o600))
	e := edit{"x.go", "one", "1"}
	text, err := e.apply(dir)
	require.NoError(t, err)
	require.Equal(t, "1 two two", text)
	for _, from := range []string{"two", "three"} {
		e.from = from
		_, err = e.apply(dir)
		require.ErrorContains(t, err, "list.go")
	}
}
