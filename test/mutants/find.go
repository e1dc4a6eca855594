package main

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// place is where an edit applies.
type place struct {
	edit     edit
	decl     decl
	from, to int // offsets in the file
}

// find returns the only place where e applies. Its error says where the text, or a line
// like it, stands now.
func (c *checkout) find(e edit) (place, error) {
	decls := c.decls[e.symbol]
	dirs := map[string]bool{}
	var places []place
	var at, found []string
	for _, d := range decls {
		dirs[path.Dir(d.file)] = true
		at = append(at, c.line(d.file, d.from))
		for _, p := range pattern(e.from).FindAllStringIndex(c.files[d.file][d.from:d.to], -1) {
			places = append(places, place{e, d, d.from + p[0], d.from + p[1]})
			found = append(found, c.line(d.file, d.from+p[0]))
		}
	}
	var wrong string
	switch {
	case len(dirs) == 1 && len(places) == 1:
		return places[0], nil
	case len(decls) == 0:
		wrong = fmt.Sprintf("there is no %s", e.symbol)
	case len(dirs) > 1:
		wrong = fmt.Sprintf("%s is ambiguous, write the directory for the package: %s", e.symbol, strings.Join(at, ", "))
	case len(places) == 0:
		wrong = fmt.Sprintf("%s at %s does not have the text", e.symbol, strings.Join(at, ", "))
	default:
		return place{}, fmt.Errorf("%s has the text %d times, make it longer: %s\n\ttext: %s",
			e.symbol, len(places), strings.Join(found, ", "), e.from)
	}
	return place{}, fmt.Errorf("%s\n\ttext: %s\n\t%s", wrong, e.from, c.hint(e, decls))
}

// pattern matches a text with any white space where the text has some.
func pattern(text string) *regexp.Regexp {
	words := strings.Fields(text)
	for i := range words {
		words[i] = regexp.QuoteMeta(words[i])
	}
	return regexp.MustCompile(strings.Join(words, `\s+`))
}

// mostHints bounds the places that an error names.
const mostHints = 3

// hint says where the text of e stands, nearest first, or else which line is most like it.
func (c *checkout) hint(e edit, decls []decl) string {
	type hit struct {
		where    string
		distance int
	}
	var hits []hit
	for file, text := range c.files {
		for _, p := range pattern(e.from).FindAllStringIndex(text, -1) {
			d := c.around(file, p[0])
			if d == nil {
				continue
			}
			h := hit{c.where(file, p[0]), 3}
			switch {
			case base(d.symbol) == base(e.symbol):
				h.distance = 0
			case slices.ContainsFunc(decls, func(o decl) bool { return o.file == file }):
				h.distance = 1
			case qualifier(d.symbol) == qualifier(e.symbol):
				h.distance = 2
			}
			hits = append(hits, h)
		}
	}
	if len(hits) > 0 {
		slices.SortFunc(hits, func(a, b hit) int {
			return cmp.Or(a.distance-b.distance, strings.Compare(a.where, b.where))
		})
		var where []string
		for _, h := range hits[:min(len(hits), mostHints)] {
			where = append(where, h.where)
		}
		return "the text stands at " + strings.Join(where, "; ")
	}

	var most similar
	for file, text := range c.files {
		offset := 0
		for line := range strings.Lines(text) {
			inside := len(decls) == 0 || slices.ContainsFunc(decls, func(d decl) bool {
				return d.file == file && d.from <= offset+len(line) && offset < d.to
			})
			if inside {
				most.consider(e.from, line, func() string {
					indent := len(line) - len(strings.TrimLeft(line, "\t "))
					return c.where(file, offset+indent) + ": " + strings.TrimSpace(line)
				})
			}
			offset += len(line)
		}
	}
	return "the text stands nowhere; the line most like it is " + most.what
}

// where is a line with the declaration around it.
func (c *checkout) where(file string, offset int) string {
	if d := c.around(file, offset); d != nil {
		return c.line(file, offset) + " in " + d.symbol
	}
	return c.line(file, offset)
}

// around is the declaration at an offset, or nil.
func (c *checkout) around(file string, offset int) *decl {
	for symbol, decls := range c.decls {
		for _, d := range decls {
			if symbol == d.symbol && d.file == file && d.from <= offset && offset < d.to {
				return &d
			}
		}
	}
	return nil
}

// qualifier is the package of a symbol, base its name without package and receiver.
func qualifier(symbol string) string {
	slash := strings.LastIndexByte(symbol, '/') + 1
	q, _, _ := strings.Cut(symbol[slash:], ".")
	return symbol[:slash] + q
}

func base(symbol string) string { return symbol[strings.LastIndexByte(symbol, '.')+1:] }

// similar keeps what is most like a text: what shares the most words with it, of those
// the one with the fewest others.
type similar struct {
	what  string
	score int
}

var word = regexp.MustCompile(`[A-Z]?[a-z0-9]+|[A-Z]+`)

func (s *similar) consider(text, candidate string, what func() string) {
	want, have := word.FindAllString(text, -1), word.FindAllString(candidate, -1)
	score := -len(have)
	for _, w := range want {
		if slices.Contains(have, w) {
			score += 4
		}
	}
	if s.what != "" && score < s.score {
		return
	}
	if what := what(); s.what == "" || score > s.score || what < s.what { // maps have no order
		s.what, s.score = what, score
	}
}
