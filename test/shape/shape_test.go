package main

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write testdata/fixture.txt")

// The fixture has each of the forms that are counted, and their neighbours that are not.
func TestTheFixtureHasItsShape(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(&out, "testdata/fixture"))
	if *update {
		require.NoError(t, os.WriteFile("testdata/fixture.txt", out.Bytes(), 0o644))
	}
	want, err := os.ReadFile("testdata/fixture.txt")
	require.NoError(t, err)
	require.Equal(t, string(want), out.String())
}

func TestCirclesAreFoundTheLargestFirst(t *testing.T) {
	g := make(graph)
	for _, edge := range [][2]string{
		{"a", "b"}, {"b", "a"}, {"b", "c"}, // c is reached, and leads nowhere
		{"x", "y"}, {"y", "z"}, {"z", "x"}, {"y", "a"},
	} {
		g.use(edge[0], edge[1])
	}
	require.Equal(t, [][]string{{"x", "y", "z"}, {"a", "b"}}, g.circles())
}

// The root is read from the outside in. A file that needs another is not needed by it.
func TestTheRootHasNoCircleOfFiles(t *testing.T) {
	m, err := load("../..")
	require.NoError(t, err)
	root := m.packages[0]
	require.Equal(t, ".", root.name)
	require.Empty(t, m.fileGraph(root).circles())
}

func TestAFolderWithoutAModuleIsAnError(t *testing.T) {
	require.Error(t, run(new(bytes.Buffer), t.TempDir()))
}
