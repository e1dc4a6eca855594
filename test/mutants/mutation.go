package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// mutation takes one rule out of the library, by exchanging pieces of its source.
type mutation struct {
	takesOut string   // the rule, and the trap it is there for
	edits    []edit   // in different files; more than one where a rule is kept twice
	in       string   // the package of the tests, from the root of the checkout
	tests    []string // each of them has to fail
}

// files are those that it changes.
func (m *mutation) files() string {
	var all []string
	for _, e := range m.edits {
		all = append(all, e.file)
	}
	return strings.Join(all, ", ")
}

// edit exchanges one piece of a file.
type edit struct {
	file     string // from the root of the checkout
	from, to string // from is in the file exactly once
}

// apply returns the text of the file with the piece exchanged. It is an error when that
// is not in it exactly once: the list has fallen behind the code.
func (e *edit) apply(root string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, e.file))
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(text), e.from); n != 1 {
		return "", fmt.Errorf("%s: found %d times, must be once; adapt test/mutants/list.go:\n%s", e.file, n, e.from)
	}
	return strings.Replace(string(text), e.from, e.to, 1), nil
}

// checkoutRoot is the directory of the root module, looked for from here upwards.
func checkoutRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module github.com/etcdlock/etcdlock\n") {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("no checkout of etcdlock around the working directory")
		}
		dir = parent
	}
}
