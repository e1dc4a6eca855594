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
	places := map[string][]place{}
	for _, e := range m.edits {
		p, err := c.find(e)
		if err != nil {
			return nil, err
		}
		places[p.file] = append(places[p.file], p)
	}
	texts := map[string]string{}
	for file, ps := range places {
		text := c.files[file]
		slices.SortFunc(ps, func(a, b place) int { return b.from - a.from }) // the last one first: it moves none
		for i, p := range ps {
			if i > 0 && p.to > ps[i-1].from {
				return nil, fmt.Errorf("two edits overlap at %s", c.line(file, p.from))
			}
			text = text[:p.from] + p.edit.to + text[p.to:]
		}
		texts[file] = text
	}
	return texts, nil
}
