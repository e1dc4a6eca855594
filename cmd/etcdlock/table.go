package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/etcdlock/etcdlock/internal/inspect/text"
)

// cell is one of a table.
type cell struct {
	text  string
	style style
}

// name is a name or a key for a table, which shows all of it where there is room.
type name string

// table has columns that are as wide as their texts. It is never wider than the terminal.
type table struct {
	out  *output
	rows [][]cell
	long bool // true if the last column is shown in full, over several lines if necessary
}

const (
	gap       = 2  // between two columns
	leastCell = 6  // the minimum width of a column
	leastLong = 24 // the minimum width of a long last column, if its text is as long
)

func (o *output) newTable(head ...string) *table {
	t := &table{out: o}
	row := make([]cell, len(head))
	for i, h := range head {
		row[i] = cell{h, bold}
	}
	t.rows = append(t.rows, row)
	return t
}

// add adds a row of strings, numbers, names and cells. An empty value is shown as a dash.
func (t *table) add(values ...any) {
	row := make([]cell, len(values))
	for i, v := range values {
		switch v := v.(type) {
		case cell:
			row[i] = cell{printable(v.text), v.style}
		case name:
			row[i] = cell{text: text.Named(string(v))}
		default:
			row[i] = cell{text: printable(fmt.Sprint(v))}
		}
		if row[i].text == "" {
			row[i].text = "-"
		}
	}
	t.rows = append(t.rows, row)
}

// addLong is like add, and shows the last column in full.
func (t *table) addLong(values ...any) {
	t.add(values...)
	t.long = true
	if last, ok := values[len(values)-1].(string); ok {
		row := t.rows[len(t.rows)-1]
		row[len(row)-1].text = text.Safe(last)
	}
}

// widths returns the widths of the columns.
func (t *table) widths() []int {
	width := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for i, c := range row {
			width[i] = max(width[i], utf8.RuneCountInString(c.text))
		}
	}
	if t.out.width == 0 {
		return width
	}
	last := len(width) - 1
	shrink, room := width, t.out.width-gap*last
	if t.long {
		others := 0
		for _, w := range width[:last] {
			others += w
		}
		width[last] = min(width[last], max(room-others, leastLong))
		shrink, room = width[:last], room-width[last]
	}
	for sum(shrink) > room {
		widest := 0
		for i, w := range shrink {
			if w > shrink[widest] {
				widest = i
			}
		}
		if shrink[widest] <= leastCell {
			break // the terminal is too narrow, and breaks the lines itself
		}
		shrink[widest]--
	}
	return width
}

func sum(all []int) (s int) {
	for _, n := range all {
		s += n
	}
	return s
}

func (t *table) print(w io.Writer) error {
	width := t.widths()
	last := len(width) - 1
	var b strings.Builder
	for _, row := range t.rows {
		for i, c := range row[:last] {
			text := cut(c.text, width[i])
			b.WriteString(t.out.in(c.style, text))
			b.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(text)+gap))
		}
		lines := []string{cut(row[last].text, width[last])}
		if t.long {
			lines = wrap(row[last].text, width[last])
		}
		for i, line := range lines {
			if i > 0 {
				b.WriteString(strings.Repeat(" ", sum(width[:last])+gap*last))
			}
			b.WriteString(t.out.in(row[last].style, line))
			b.WriteString("\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// cut shortens a text to a width. It keeps the beginning. If the width suffices, it also keeps the
// last few characters, which are the lease in a key.
func cut(text string, width int) string {
	r := []rune(text)
	if len(r) <= width || width < 1 {
		return text
	}
	tail := 0
	if width >= 3*leastCell {
		tail = width / 4
	}
	return string(r[:width-1-tail]) + "…" + string(r[len(r)-tail:])
}

// wrap breaks a text into lines of a width, between words if possible.
func wrap(text string, width int) (lines []string) {
	for r := []rune(text); ; {
		if len(r) <= width || width < 1 {
			return append(lines, string(r))
		}
		end, next := width, width
		for i := width; i > width/2; i-- {
			if r[i] == ' ' {
				end, next = i, i+1
				break
			}
		}
		lines = append(lines, string(r[:end]))
		r = r[next:]
	}
}
