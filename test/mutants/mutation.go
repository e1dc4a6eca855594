package main

import (
	"fmt"
	"slices"
	"strings"
)

// mutation takes one rule out of the library, by exchanging pieces of its source.
type mutation struct {
	takesOut string   // the rule, and the trap it is there for
	edits    []edit   // more than one where a rule is kept twice
	tests    []string // each of them has to fail; their package is found by their name
}

// edit exchanges one piece of a declaration. The file is found by the symbol, so an edit
// still applies after the declaration has moved to another file.
type edit struct {
	// symbol is the declaration with its package, as in queue.(*Queue).Enter or
	// queue.MostSwept. A package main is named by its directory: cmd/etcdlock.run.
	symbol string
	// from stands in the declaration exactly once. White space is compared loosely: any
	// amount of it equals any other.
	from string
	to   string
}

// symbols returns the declarations that m changes.
func (m *mutation) symbols() string {
	var all []string
	for _, e := range m.edits {
		all = append(all, e.symbol)
	}
	return strings.Join(all, ", ")
}

// String is the text that a mutation is chosen by.
func (m *mutation) String() string {
	return strings.Join([]string{m.takesOut, m.symbols(), strings.Join(m.tests, ", ")}, " | ")
}

// apply returns the new texts of the files that m changes, by their paths from the root
// of the checkout. It is an error when the list has fallen behind the code.
func (m *mutation) apply(c *checkout) (map[string]string, error) {
	places, err := c.places(m)
	if err != nil {
		return nil, err
	}
	files := map[string][]place{}
	for _, p := range places {
		files[p.decl.file] = append(files[p.decl.file], p)
	}
	texts := map[string]string{}
	for file, ps := range files {
		texts[file] = exchange(c.files[file], 0, ps)
	}
	return texts, nil
}

// places are those of the edits of m, the last one in a file first.
func (c *checkout) places(m *mutation) (places []place, err error) {
	for _, e := range m.edits {
		p, err := c.find(e)
		if err != nil {
			return nil, err
		}
		places = append(places, p)
	}
	slices.SortFunc(places, func(a, b place) int { return b.from - a.from })
	for i, p := range places {
		for _, later := range places[:i] {
			if p.decl.file == later.decl.file && p.to > later.from {
				return nil, fmt.Errorf("two edits overlap at %s", c.line(p.decl.file, p.from))
			}
		}
	}
	return places, nil
}

// exchange makes some edits, the last one first, in a text that begins at an offset.
func exchange(text string, begin int, places []place) string {
	for _, p := range places {
		text = text[:p.from-begin] + p.edit.to + text[p.to-begin:]
	}
	return text
}
