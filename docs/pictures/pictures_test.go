package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The committed pictures are what the program draws from the tables of the pages.
func TestThePicturesAreUpToDate(t *testing.T) {
	for _, p := range pictures {
		c, err := p.draw("..")
		require.NoError(t, err, p.file)
		committed, err := os.ReadFile(p.file)
		require.NoError(t, err)
		require.Equal(t, c.svg(), string(committed), "%s is out of date: run make pictures", p.file)
	}
	files, err := filepath.Glob("*.svg")
	require.NoError(t, err)
	require.Len(t, files, len(pictures)+1, "and dashboard.svg, which is drawn by make dashboard")
}

// A picture is well-formed, and has a title and a description for readers that do not see it.
func TestThePicturesAreReadable(t *testing.T) {
	for _, p := range pictures {
		c, err := p.draw("..")
		require.NoError(t, err)
		decoder := xml.NewDecoder(strings.NewReader(c.svg()))
		for {
			_, err := decoder.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err, p.file)
		}
		require.NotEmpty(t, c.title)
		require.Greater(t, len(c.text), 80, p.file)
	}
}

// Each class has a colour in both schemes, except those that set no colour.
func TestEachColourHasADarkOne(t *testing.T) {
	light, dark, ok := strings.Cut(style, "@media (prefers-color-scheme:dark){")
	require.True(t, ok)
	for _, line := range strings.Split(strings.TrimSpace(light), "\n") {
		class, rule, _ := strings.Cut(line, "{")
		if strings.Contains(rule, "#") {
			require.Contains(t, dark, "\n"+class+"{", "%s has no dark colour", class)
		}
	}
}

func TestATableThatIsMissingOrHasNoNumbersIsAnError(t *testing.T) {
	dir := t.TempDir()
	page := "| a | b |\n|---|---|\n| one | 1,000 |\n| two | **+2.5** |\n\n| a | c |\n|---|---|\n| x | y |\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "page.md"), []byte(page), 0o600))

	rows, err := table(dir, "page.md", "a", "b")
	require.NoError(t, err)
	require.Equal(t, [][]string{{"one", "1,000"}, {"two", "+2.5"}}, rows)
	values, err := figures([]string{rows[0][1], rows[1][1]}, 0, 1)
	require.NoError(t, err)
	require.Equal(t, []float64{1000, 2.5}, values)

	rows, err = table(dir, "page.md", "a", "c")
	require.NoError(t, err)
	_, err = figures(rows[0], 1)
	require.Error(t, err)
	_, err = figures(rows[0], 2)
	require.Error(t, err)
	_, err = table(dir, "page.md", "d")
	require.Error(t, err)
}
