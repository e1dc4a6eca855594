package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMisspellingsAreFoundAndCodeIsNotRead(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("page.md", "# A page\n\nIts behavior is recieved.\n\n```go\nvar behavior int\n```\n\nThe `behavior` of context.Canceled and a [color](color.md).\n")                                           //nolint:misspell // a fault to be found
	write("code.go", "package code\n\nimport \"colors\"\n\n// A wait that is [color] cancelled by http.StatusCanceled.\nvar behavior = \"color\"\n\n// The color.\nvar text = \"a recieved request\"\n") //nolint:misspell // a fault to be found
	found, files, err := check(dir)
	require.NoError(t, err)
	require.Equal(t, 2, files)
	require.Equal(t, []string{
		filepath.Join(dir, "code.go") + `:8: "color" should be "colour"`,
		filepath.Join(dir, "code.go") + `:9: "recieved" should be "received"`, //nolint:misspell // a fault to be found
		filepath.Join(dir, "page.md") + `:3: "behavior" should be "behaviour"`,
		filepath.Join(dir, "page.md") + `:3: "recieved" should be "received"`, //nolint:misspell // a fault to be found
		filepath.Join(dir, "page.md") + `:9: "color" should be "colour"`,
	}, found)
}
