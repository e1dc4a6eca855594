package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// report is what a run leaves.
type report struct {
	Environment environment `json:"environment"`
	Outcomes    []*outcome  `json:"outcomes"`
	Failures    []string    `json:"failures"`
}

// environment is what one has to know of the machine to read the figures.
type environment struct {
	Time   time.Time     `json:"time"`
	Go     string        `json:"go"`
	Etcd   string        `json:"etcd"`
	OS     string        `json:"os"`
	CPUs   int           `json:"cpus"`
	TTL    time.Duration `json:"ttl_ns"`
	Rounds int           `json:"rounds"`
}

func survey(p plan) environment {
	e := environment{
		Time: time.Now().UTC().Truncate(time.Second), Go: runtime.Version(), Etcd: p.etcd.Version,
		OS: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(), TTL: p.ttl, Rounds: p.rounds,
	}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		e.OS += " " + unix.ByteSliceToString(uts.Release[:])
	}
	return e
}

// write prints the summary and what failed, and writes it, the whole table, the figures
// and the picture.
func (r report) write(dir string, w io.Writer) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var short, long strings.Builder
	e := r.Environment
	for _, b := range []*strings.Builder{&short, &long} {
		fmt.Fprintf(b, "%s, %s, etcd %s, %d cores; TTL %v, %d rounds; where two figures share a cell, etcdlock's and that of etcd's own library.\n\n",
			e.OS, e.Go, e.Etcd, e.CPUs, e.TTL, e.Rounds)
	}
	writeSummary(&short, r.Outcomes)
	writeTable(&long, r.Outcomes)
	fmt.Fprintln(&short)
	writeTold(&short, r.Outcomes)
	fmt.Fprint(w, short.String())
	for _, f := range r.Failures {
		fmt.Fprintln(w, "FAILED:", f)
	}
	for name, text := range map[string]string{"summary.md": short.String(), "table.md": long.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "results.json"), text, 0o644); err != nil {
		return err
	}
	return drawOverlaps(filepath.Join(dir, "overlap.png"), r.Outcomes)
}

// writeHistory writes everything that the clients told and that was done to them, a line
// of JSON each.
func (o *outcome) writeHistory(dir string) error {
	if o.Skipped != "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, o.Nemesis+".jsonl"))
	if err != nil {
		return err
	}
	defer f.Close()
	lines := json.NewEncoder(f)
	for _, e := range o.Events {
		if err := lines.Encode(e); err != nil {
			return err
		}
	}
	return f.Close()
}

// line is one line about a nemesis that is through.
func (o *outcome) line() string {
	if o.Skipped != "" {
		return fmt.Sprintf("%-16s skipped: %s", o.Nemesis, o.Skipped)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-16s %5.1f s, without an answer to a renewal %.1f s, to a write %.1f s", o.Nemesis, o.Took.Seconds(), o.NoRenewals, o.NoWrites)
	for _, f := range o.Groups {
		fmt.Fprintf(&b, " | %s %s: %d ops, overlap %s ms", f.Library, f.Kind, f.Operations, f.overlapText())
		if len(f.Told) > 0 {
			fmt.Fprintf(&b, ", told %.1f ms after SIGCONT", median(f.Told))
		}
		for _, v := range f.broken() {
			fmt.Fprintf(&b, "\n%-16s %s, %s: %s", "", f.Library, f.Kind, v)
		}
	}
	for _, n := range o.Notes {
		fmt.Fprintf(&b, "\n%-16s %s", "", n)
	}
	return b.String()
}
