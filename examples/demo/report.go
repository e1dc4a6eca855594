package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// report is what the reader of the demo sees: the story while it happens, and
// at the end each promise with what became of it.
type report struct {
	out      io.Writer
	scenes   int
	promises []promise
}

type promise struct {
	text string
	kept bool
	seen string // what was seen
}

func (r *report) printf(format string, args ...any) { fmt.Fprintf(r.out, format+"\n", args...) }

// scene opens a part of the story: a heading and what it is about.
func (r *report) scene(title, about string) {
	r.scenes++
	r.printf("\n%d. %s\n%s\n", r.scenes, title, about)
}

// line tells one thing that happened.
func (r *report) line(format string, args ...any) { r.printf("   "+format, args...) }

// promise notes whether a promise was kept, for the summary.
func (r *report) promise(kept bool, text, seen string, args ...any) {
	r.promises = append(r.promises, promise{text, kept, fmt.Sprintf(seen, args...)})
}

// close prints the summary and tells whether all is well: the story came to its
// end, and every promise was kept.
func (r *report) close(err error) bool {
	r.printf("\nSummary")
	good := err == nil
	for _, p := range r.promises {
		verdict := "OK    "
		if !p.kept {
			verdict, good = "FAILED", false
		}
		r.line("%s %s: %s", verdict, p.text, p.seen)
	}
	if err != nil {
		r.line("FAILED the demo did not come to its end: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return good
}

// took rounds a duration to what a reader wants to know.
func took(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}
