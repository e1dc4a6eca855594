// Command shape counts what shows whether the code has a form: lines and comments, the
// structs whose fields many files use, the sites of each mutex, circles of files, long
// functions, and words that make prose hard to read.
//
//	go run ./shape             the library in this checkout; `make shape` in the root
//	go run ./shape DIR         the module in DIR, such as another revision's worktree
//
// The output is in a stable order and names no line numbers, so that the outputs of two
// revisions can be compared with diff. Test files are counted, but their types are not
// looked at. Files that other platforms compile are counted on these platforms only.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: shape [DIR]")
	}
	flag.Parse()
	dir := ".."
	switch flag.NArg() {
	case 0:
	case 1:
		dir = flag.Arg(0)
	default:
		flag.Usage()
		os.Exit(2)
	}
	if err := run(os.Stdout, dir); err != nil {
		fmt.Fprintln(os.Stderr, "shape:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, dir string) error {
	m, err := load(dir)
	if err != nil {
		return err
	}
	words, err := m.words()
	if err != nil {
		return err
	}
	sizes, err := m.sizes()
	if err != nil {
		return err
	}
	uses := m.uses()
	for _, table := range []table{
		sizes,
		m.fileCircles(),
		m.packageCircles(),
		uses.owners(),
		uses.fields(),
		uses.mutexes(),
		m.longFunctions(),
		words,
	} {
		if err := table.write(w); err != nil {
			return err
		}
	}
	return nil
}
