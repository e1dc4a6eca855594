package main

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// hardWords are words that make technical English hard to read: pronouns without a name,
// and old forms.
var hardWords = []struct {
	name    string
	pattern *regexp.Regexp
}{
	{"who", regexp.MustCompile(`(?i)\b(who|whoever|whom|whose)\b`)},
	{"he", regexp.MustCompile(`(?i)\b(he|him|his)\b`)},
	{"lest", regexp.MustCompile(`(?i)\blest\b`)},
	{"anew", regexp.MustCompile(`(?i)\banew\b`)},
	{"for ever", regexp.MustCompile(`(?i)\bfor\s+ever\b`)},
}

// wordCount is a number of words, and how many of them are hard, in the order of hardWords.
type wordCount struct {
	words int
	hard  [5]int
}

func (c *wordCount) add(text string) {
	c.words += len(strings.Fields(text))
	for i, h := range hardWords {
		c.hard[i] += len(h.pattern.FindAllString(text, -1))
	}
}

func (m *module) words() (table, error) {
	t := table{title: "Words in 1,000", header: []string{"in", "words"}}
	for _, h := range hardWords {
		t.header = append(t.header, h.name)
	}
	row := func(name string, c wordCount) {
		cells := []any{name, c.words}
		for _, n := range c.hard {
			cells = append(cells, fmt.Sprintf("%.1f", 1000*float64(n)/float64(max(c.words, 1))))
		}
		t.add(cells...)
	}
	var code, tests wordCount
	for _, p := range m.packages {
		if err := code.addComments(p.Dir, p.GoFiles); err != nil {
			return t, err
		}
		if err := tests.addComments(p.Dir, slices.Concat(p.TestGoFiles, p.XTestGoFiles)); err != nil {
			return t, err
		}
	}
	markdown, err := wordsOfMarkdown(m.dir)
	row("comments", code)
	row("comments of tests", tests)
	row("Markdown", markdown)
	return t, err
}

func (c *wordCount) addComments(dir string, names []string) error {
	for _, name := range names {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, group := range f.Comments {
			c.add(group.Text())
		}
	}
	return nil
}

// wordsOfMarkdown counts the Markdown files of the module, without those of other modules
// below it.
func wordsOfMarkdown(dir string) (c wordCount, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != dir:
			if name := d.Name(); strings.HasPrefix(name, ".") || name == "testdata" {
				return filepath.SkipDir
			}
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
				return filepath.SkipDir
			}
		case filepath.Ext(path) == ".md":
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			c.add(string(text))
		}
		return nil
	})
	return c, err
}
