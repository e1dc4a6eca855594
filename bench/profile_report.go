package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"unicode/utf8"
)

const usageNote = `Processor time of one act in microseconds, and its share. An act is an acquisition with its release, or whatever the suite does again
and again, with all that belongs to it: of a handover also that two lock, and that one waits.
How much is used tell the processes' clocks; where, the samples, of which there is one in 10 ms of processor time at most: a thread that
runs for less is often missed. A bucket with n samples is off by a part of 1/√n. "Clients" are all processes that lock, together; etcd is
all of its members. A sample belongs to the innermost function that is known (bench/buckets.go has the rule).
`

// writeUsages prints a table for each case, with its contestants beside each other.
func writeUsages(w io.Writer, cases []*profiled) {
	fmt.Fprintf(w, "\n%s", usageNote)
	var done []spot
	for _, c := range cases {
		what := c.spot
		what.Contestant = ""
		if slices.Contains(done, what) {
			continue
		}
		done = append(done, what)
		var same []*profiled
		for _, o := range cases {
			if o.Suite == c.Suite && o.Nodes == c.Nodes && o.Case == c.Case {
				same = append(same, o)
			}
		}
		fmt.Fprintf(w, "\n## %s: %s, %s\n\n", c.Suite, c.Case, nodeCount(c.Nodes))
		writeUsage(w, same)
	}
}

// writeUsage prints one case.
func writeUsage(w io.Writer, contestants []*profiled) {
	head := []string{"µs of processor time (share)"}
	var columns []column
	for _, c := range contestants {
		clients, etcd := newColumn(c.clients, c.acts), newColumn(c.etcd, c.acts)
		fmt.Fprintf(w, "- %s: %d acts in %.1f s; %s in the clients, %s in etcd; %.2f of %d processors were busy with them\n",
			c.Contestant, c.acts, c.lasted.Seconds(), clients.basis(c.clients), etcd.basis(c.etcd),
			(c.clients.processor+c.etcd.processor).Seconds()/c.lasted.Seconds(), runtime.NumCPU())
		head = append(head, c.Contestant+": clients", "etcd")
		columns = append(columns, clients, etcd)
	}
	rows := [][]string{head}
	for _, in := range buckets {
		row := []string{string(in)}
		for _, c := range columns {
			row = append(row, c.cell(c.in[in]))
		}
		if slices.ContainsFunc(row[1:], func(cell string) bool { return cell != "" }) {
			rows = append(rows, row)
		}
	}
	sum := []string{"all"}
	for _, c := range columns {
		sum = append(sum, c.cell(c.total))
	}
	fmt.Fprintln(w)
	writeAligned(w, append(rows, sum))
}

// column is the usage of some processes.
type column struct {
	in      map[bucket]float64
	total   float64 // of in
	samples int64
	micros  float64 // of an act
}

func newColumn(u usage, acts int) column {
	var c column
	c.in, c.total, c.samples = shares(u.profiles)
	c.micros = micros(u.processor) / float64(max(1, acts))
	return c
}

// basis is what the column stands on.
func (c column) basis(u usage) string {
	few := ""
	if c.samples < fewSamples {
		few = ", too few to tell"
	}
	return fmt.Sprintf("%.2f s of processor time (%d samples%s)", u.processor.Seconds(), c.samples, few)
}

const fewSamples = 100

// cell is empty where there is nothing.
func (c column) cell(part float64) string {
	if part == 0 {
		return ""
	}
	share := part / c.total
	return fmt.Sprintf("%s (%.1f %%)", number(share*c.micros), 100*share)
}

// writeAligned prints a table in Markdown that can be read as it is.
func writeAligned(w io.Writer, rows [][]string) {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	line := func(cells []string, fill string) {
		for i, cell := range cells {
			space := strings.Repeat(fill, width[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				fmt.Fprintf(w, "| %s%s |", cell, space)
			} else {
				fmt.Fprintf(w, " %s%s |", space, cell)
			}
		}
		fmt.Fprintln(w)
	}
	line(rows[0], " ")
	rule := make([]string, len(width))
	for i := range rule {
		rule[i] = "-:"
	}
	rule[0] = "--"
	line(rule, "-")
	for _, row := range rows[1:] {
		line(row, " ")
	}
}
