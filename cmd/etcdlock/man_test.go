package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheManualPagesAreThoseOfTheseCommands(t *testing.T) {
	dir := t.TempDir()
	root := newRoot()
	root.SetArgs([]string{"man", dir})
	require.NoError(t, root.Execute())
	pages, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Greater(t, len(pages), 10)
	for _, page := range pages {
		want, err := os.ReadFile(page)
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join("..", "..", "docs", "man", filepath.Base(page)))
		require.NoError(t, err, "go generate makes it")
		require.Equal(t, string(want), string(got), "go generate makes it again")
	}
}
