package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// output is how a command shows what it has found: as a table for people or as JSON for
// programs.
type output struct {
	format string
	colour bool
}

func (o *output) addFlag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.format, "output", "o", "table", "table or json")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

func (o *output) check() error {
	if o.format != "table" && o.format != "json" {
		return usagef("--output is table or json, and not %q", o.format)
	}
	// https://no-color.org
	o.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(os.Stdout.Fd()))
	return nil
}

func (o *output) json() bool { return o.format == "json" }

func printJSON(v any) error {
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// printLine prints one of a sequence of JSON values.
func printLine(v any) error { return json.NewEncoder(os.Stdout).Encode(v) }

// style is a colour, or another way to stand out.
type style string

const (
	plain  style = ""
	bold   style = "1"
	dim    style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
)

func (o *output) in(s style, text string) string {
	if !o.colour || s == plain || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// cell is one of a table.
type cell struct {
	text  string
	style style
}

// table has columns as wide as they need to be, but for the last one.
type table struct {
	out  *output
	rows [][]cell
}

func (o *output) newTable(head ...string) *table {
	t := &table{out: o}
	row := make([]cell, len(head))
	for i, h := range head {
		row[i] = cell{h, bold}
	}
	t.rows = append(t.rows, row)
	return t
}

// add adds a row of strings, numbers and cells; what is empty is shown as a dash.
func (t *table) add(values ...any) {
	row := make([]cell, len(values))
	for i, v := range values {
		c, ok := v.(cell)
		if !ok {
			c = cell{text: fmt.Sprint(v)}
		}
		if c.text = printable(c.text); c.text == "" {
			c.text = "-"
		}
		row[i] = c
	}
	t.rows = append(t.rows, row)
}

// addLong is add for a last column that is shown in full.
func (t *table) addLong(values ...any) {
	t.add(values...)
	row := t.rows[len(t.rows)-1]
	row[len(row)-1].text = safe(fmt.Sprint(values[len(values)-1]))
}

func (t *table) print(w io.Writer) error {
	width := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for i, c := range row {
			width[i] = max(width[i], utf8.RuneCountInString(c.text))
		}
	}
	var b strings.Builder
	for _, row := range t.rows {
		for i, c := range row {
			b.WriteString(t.out.in(c.style, c.text))
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(c.text)+2))
			}
		}
		b.WriteString("\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printable keeps what others have written into etcd from changing the terminal.
func printable(s string) string {
	const most = 60
	s = safe(s)
	if r := []rune(s); len(r) > most {
		s = string(r[:most-1]) + "…"
	}
	return s
}

// safe is printable of any length.
func safe(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError }) {
		return fmt.Sprintf("%q", s)
	}
	return s
}

// age is how long ago something was, in a unit that fits.
func age(since time.Time) string {
	if since.IsZero() {
		return ""
	}
	return short(time.Since(since))
}

func short(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}
