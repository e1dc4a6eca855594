package main

import (
	"fmt"
	"go/ast"
	"go/scanner"
	"go/token"
	"os"
	"path/filepath"
	"slices"
)

// longFunction is the number of lines above which a function is listed.
const longFunction = 60

// lineCount is what the lines of some files are. A line with code and a comment is code.
type lineCount struct{ files, all, code, comments, longest int }

func (c *lineCount) add(d lineCount) {
	c.files += d.files
	c.all += d.all
	c.code += d.code
	c.comments += d.comments
	c.longest = max(c.longest, d.longest)
}

func countFiles(dir string, names []string) (sum lineCount, err error) {
	for _, name := range names {
		source, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return sum, err
		}
		sum.add(countLines(source))
	}
	return sum, nil
}

func countLines(source []byte) lineCount {
	file := token.NewFileSet().AddFile("", -1, len(source))
	var s scanner.Scanner
	s.Init(file, source, nil, scanner.ScanComments)
	code, comments := make(map[int]bool), make(map[int]bool)
	for {
		pos, tok, text := s.Scan()
		if tok == token.EOF {
			break
		}
		if tok == token.SEMICOLON && text == "\n" {
			continue // one that the scanner inserts
		}
		lines := code
		if tok == token.COMMENT {
			lines = comments
		}
		end := pos + token.Pos(len(text)) // of a literal that spans lines
		for l := file.Line(pos); l <= file.Line(min(end, token.Pos(file.Base()+file.Size()))); l++ {
			lines[l] = true
		}
	}
	count := lineCount{files: 1, all: file.LineCount(), code: len(code)}
	count.longest = count.all
	for l := range comments {
		if !code[l] {
			count.comments++
		}
	}
	return count
}

func (m *module) sizes() (table, error) {
	t := table{
		title:  "Lines (code: without blank lines and comments; comments: their share of the lines that are not blank)",
		header: []string{"package", "files", "lines", "code", "comments", "longest file", "test files", "test lines"},
	}
	var sum, tests lineCount
	row := func(name string, c, tests lineCount) {
		t.add(name, c.files, c.all, c.code, percent(c.comments, c.code+c.comments), c.longest, tests.files, tests.all)
	}
	for _, p := range m.packages {
		c, err := countFiles(p.Dir, p.GoFiles)
		if err != nil {
			return t, err
		}
		inTests, err := countFiles(p.Dir, slices.Concat(p.TestGoFiles, p.XTestGoFiles))
		if err != nil {
			return t, err
		}
		row(p.name, c, inTests)
		sum.add(c)
		tests.add(inTests)
	}
	row("all", sum, tests)
	return t, nil
}

func (m *module) longFunctions() table {
	t := table{title: fmt.Sprintf("Functions over %d lines", longFunction), header: []string{"package", "file", "function", "lines"}}
	for _, p := range m.packages {
		for _, f := range p.files {
			for _, d := range f.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok {
					continue
				}
				if n := m.fset.Position(fn.End()).Line - m.fset.Position(fn.Pos()).Line + 1; n > longFunction {
					t.add(p.name, m.file(fn.Pos()), fn.Name.Name, n)
				}
			}
		}
	}
	return t
}
