package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/etcdlock/etcdlock/internal/inspect/text"
)

// output prints the results of a command on standard output, as a table for people or as JSON for
// programs.
type output struct {
	format string
	colour bool
	width  int // of the terminal; 0 if standard output is not one
}

func (o *output) addFlag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.format, "output", "o", "table", "format of the output: table or json")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

func (o *output) check() error {
	if o.format != "table" && o.format != "json" {
		return usagef("--output must be table or json, not %q", o.format)
	}
	// https://no-color.org
	if width, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil {
		o.width = width
		o.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	}
	return nil
}

func (o *output) json() bool { return o.format == "json" }

func printJSON(v any) error { return encode(v, "  ") }

// printLine prints one of a sequence of JSON values.
func printLine(v any) error {
	return encode(v, "")
}

func encode(v any, indent string) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", indent)
	if err := enc.Encode(text.Legible(v)); err != nil {
		return err
	}
	_, err := os.Stdout.WriteString(text.EscapeJSON(b.String()))
	return err
}

// style is a colour or a weight of text.
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

// printable quotes text of other clients that could change the terminal, and shortens it.
func printable(s string) string {
	const most = 60
	return cut(text.Safe(s), most)
}

// age is the time since an event, in a unit that fits. It is empty for the zero time.
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
