// Command spelling finds common misspellings, and words in American spelling, in the repository: in
// Markdown, in the comments of Go files, and in their string literals that are texts. Code, and the
// names of symbols and files, are left out.
//
//	go run ./spelling      this checkout; part of `make lint`
//
// The texts of this repository are in British spelling.
package main

import (
	"fmt"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/golangci/misspell"
)

func main() {
	found, files, err := check("..")
	for _, f := range found {
		fmt.Println(f)
	}
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "spelling:", err)
		os.Exit(1)
	case len(found) > 0:
		os.Exit(1)
	}
	fmt.Printf("spelling: %d files\n", files)
}

// check returns the faults of all files below dir, except this program's, and the number of files.
func check(dir string) (found []string, files int, err error) {
	speller := newSpeller()
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name := d.Name()
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != dir && (strings.HasPrefix(name, ".") || name == "testdata" || name == "results" || name == "spelling"):
			return filepath.SkipDir
		case d.IsDir():
			return nil
		}
		var prose func([]byte) string
		switch filepath.Ext(name) {
		case ".md":
			prose = markdown
		case ".go":
			prose = goTexts
		default:
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for _, fault := range speller.faults(prose(source)) {
			found = append(found, path+":"+fault)
		}
		return nil
	})
	return found, files, err
}

// terms are words of other programs: of SQL, of gRPC's errors, and of goreleaser.
var terms = []string{"serialization", "dialing", "artifact", "artifacts"}

type speller struct{ *misspell.Replacer }

func newSpeller() speller {
	r := misspell.New()
	r.AddRuleList(misspell.DictBritish)
	r.AddRuleList([]string{"canceled", "cancelled", "canceling", "cancelling"})
	r.RemoveRule(terms)
	r.Compile()
	return speller{r}
}

// faults are the misspelled words of a text, each with its line.
func (s speller) faults(text string) (all []string) {
	_, diffs := s.Replace(text)
	for _, d := range diffs {
		all = append(all, fmt.Sprintf("%d: %q should be %q", d.Line, d.Original, d.Corrected))
	}
	return all
}

var (
	codeSpan = regexp.MustCompile("`[^`\n]*`")
	link     = regexp.MustCompile(`\[([^\]\n]*)\]\([^)\s]*\)`)
	// symbol matches links of doc comments, and words that are names: with a capital after a small
	// letter, with a dot, slash or underscore inside, or with two hyphens;
	// and an error of Go.
	symbol = regexp.MustCompile(`\[[^\]\n]*\]|\b\w*[a-z][A-Z]\w*\b|\w+[./_]\w[\w./]*|\w+-\w+-\w+|context canceled`)
)

// markdown is the prose of a page. Code becomes empty, so that lines keep their numbers.
func markdown(source []byte) string {
	lines := strings.Split(string(source), "\n")
	inCode := false
	for i, line := range lines {
		fence := strings.HasPrefix(strings.TrimSpace(line), "```")
		if fence {
			inCode = !inCode
		}
		if fence || inCode || strings.HasPrefix(line, "    ") {
			lines[i] = ""
		}
	}
	text := codeSpan.ReplaceAllString(strings.Join(lines, "\n"), "")
	text = link.ReplaceAllString(text, "$1")
	return symbol.ReplaceAllString(text, "")
}

// goTexts are the comments and the texts of a Go file, on the lines on which they are. A literal
// without a space is no text.
func goTexts(source []byte) string {
	file := token.NewFileSet().AddFile("", -1, len(source))
	var s scanner.Scanner
	s.Init(file, source, nil, scanner.ScanComments)
	var b strings.Builder
	line := 1
	for {
		pos, tok, text := s.Scan()
		if tok == token.EOF {
			break
		}
		directive := strings.HasPrefix(text, "//go:") || strings.HasPrefix(text, "//nolint")
		if tok == token.COMMENT && !directive || tok == token.STRING && strings.Contains(text, " ") {
			for ; line < file.Line(pos); line++ {
				b.WriteByte('\n')
			}
			b.WriteString(text + " ")
			line += strings.Count(text, "\n")
		}
	}
	return symbol.ReplaceAllString(b.String(), "")
}
