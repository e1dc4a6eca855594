package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// results is the JSON file of a run.
type results struct {
	Environment environment   `json:"environment"`
	Contestants []participant `json:"contestants"`
	Rows        []*row        `json:"rows"`
	Targets     []outcome     `json:"targets"`
	Checks      []check       `json:"checks"`
}

// participant describes a contestant and its locks.
type participant struct {
	Key     string `json:"key"`
	About   string `json:"about"`
	Durable string `json:"durable"`
}

func participants(lists ...[]contestant) []participant {
	out := []participant{{theFloor, "Put, Delete and Delete until event of etcd itself", "as etcd's Mutex"}}
	for _, list := range lists {
		for _, c := range list {
			out = append(out, participant{c.key, c.about, c.durable})
		}
	}
	return out
}

// number is short, and exact enough.
func number(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "-"
	case a >= 1000:
		return fmt.Sprintf("%.0f", v)
	case a >= 100:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.3g", v)
	}
}

// writeTargets prints a line for each target, and where to look for the reasons.
func writeTargets(w io.Writer, list []outcome) {
	missed := false
	for _, o := range list {
		verdict := "met"
		switch {
		case !o.Known:
			verdict = "-"
		case !o.Met:
			verdict, missed = "NOT MET", true
		}
		fmt.Fprintf(w, "%-62s %-9s %14s   %s\n", o.Target, o.Bound, o.text, verdict)
	}
	if missed {
		fmt.Fprintln(w, "why not, and what was tried: bench/NOTES.md; where the time goes: make bench-quick PROFILE=dir")
	}
}

// writeChecks prints what the referee found.
func writeChecks(w io.Writer, c *checks) {
	sum, failed := c.sum()
	fmt.Fprintf(w, "referee: %d holds, %d overlaps, %d stale tokens\n", sum.Holds, sum.Overlaps, sum.Stale)
	for _, f := range failed {
		fmt.Fprintf(w, "  %s: %d overlaps (worst %v), %d stale tokens; %s\n", f.Where, f.Overlaps, f.Worst, f.Stale, f.First)
	}
}

// writeTable prints the rows as tables in Markdown, one for each suite.
func writeTable(w io.Writer, rows []*row) {
	suite := ""
	for _, r := range rows {
		if r.Suite != suite {
			suite = r.Suite
			fmt.Fprintf(w, "\n## %s\n\n", title(suite))
			fmt.Fprintln(w, "| nodes | case | | | median | min - max | unit | of Mutex | of the floor |")
			fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|")
		}
		fmt.Fprintf(w, "| %d | %s | %s | %s | %s | %s - %s | %s | %s | %s |\n", r.Nodes, r.Case, r.Contestant, r.Metric,
			number(r.Median), number(r.Min), number(r.Max), r.Unit, times(r.VsMutex), times(r.VsFloor))
	}
}

func title(name string) string {
	for _, s := range suites() {
		if s.name == name {
			return fmt.Sprintf("%s: %s", s.name, s.about)
		}
	}
	return name
}

func times(s *summary) string {
	if s == nil {
		return ""
	}
	return number(s.Median) + "x"
}

// writeMarkdown is the whole report.
func writeMarkdown(w io.Writer, r results) {
	e := r.Environment
	fmt.Fprintf(w, "# Benchmark of %s\n\n", e.Time.Format("2006-01-02 15:04 UTC"))
	fmt.Fprintf(w, "%s, etcd %s, %s, %d CPUs, load %s when it began; a write and fsync takes %s µs.\n", e.Go, e.Etcd, e.OS, e.CPUs, e.Load, number(e.Sync))
	fmt.Fprint(w, "Medians of interleaved rounds; quotients are of the same round.\n\n| | | durable |\n|---|---|---|\n")
	for _, p := range r.Contestants {
		fmt.Fprintf(w, "| %s | %s | %s |\n", p.Key, p.About, p.Durable)
	}
	for _, a := range e.Absent {
		fmt.Fprintf(w, "| %s | absent | |\n", a)
	}
	fmt.Fprint(w, "\n## Targets\n\n| target | | measured | |\n|---|---|---|---|\n")
	for _, o := range r.Targets {
		verdict := "not met"
		if o.Met {
			verdict = "met"
		} else if !o.Known {
			verdict = "-"
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s |\n", o.Target, o.Bound, o.text, verdict)
	}
	writeTable(w, r.Rows)
}

// writeResults writes everything into a directory.
func writeResults(dir string, r results) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "results.json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	var md strings.Builder
	writeMarkdown(&md, r)
	if err := os.WriteFile(filepath.Join(dir, "results.md"), []byte(md.String()), 0o644); err != nil {
		return err
	}
	return drawAll(dir, r.Rows)
}
