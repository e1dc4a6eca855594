package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// writeSummary writes a markdown table with a row for each nemesis: of all workloads of a
// library the worst, or the sum.
func writeSummary(w io.Writer, outcomes []*outcome) {
	fmt.Fprintln(w, "| nemesis | overlap, ms: etcdlock | etcd | next holder, s: etcdlock | etcd | lost for nothing | left behind | stuck | writes refused | histories | operations | etcd away, s |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, o := range outcomes {
		if o.Skipped != "" {
			fmt.Fprintf(w, "| %s | **skipped: %s** |%s\n", o.Nemesis, o.Skipped, strings.Repeat(" |", 10))
			continue
		}
		us, they := o.sum(ours.name), o.sum(control.name)
		both := func(value func(*figures) string) string {
			if they == nil {
				return value(us)
			}
			return value(us) + " / " + value(they)
		}
		apart := func(value func(*figures) string) string {
			if they == nil {
				return value(us) + " | -"
			}
			return value(us) + " | " + value(they)
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %.1f |\n", o.Nemesis,
			apart((*figures).overlapText), apart((*figures).nextText),
			both(func(f *figures) string { return fmt.Sprint(f.Unforced) }),
			both(func(f *figures) string { return fmt.Sprint(f.Left.Idle + f.Left.Keys + f.Left.Leases) }),
			both(func(f *figures) string { return fmt.Sprint(f.Stuck) }),
			both(func(f *figures) string { return fmt.Sprint(f.Refused) }),
			both((*figures).historyText),
			both(func(f *figures) string { return fmt.Sprint(f.Operations) }),
			o.NoWrites)
	}
}

// sum are the figures of all workloads of a library together; nil if it had none.
func (o *outcome) sum(library string) *figures {
	var all *figures
	for _, f := range o.Groups {
		if f.Library != library {
			continue
		}
		if all == nil {
			all = &figures{Library: library, Overlap: none, History: sound}
		}
		if f.Exclusive {
			all.Overlap, all.Exclusive = max(all.Overlap, f.Overlap), true
		}
		if f.History != sound {
			all.History = f.History
		}
		all.Next = slices.Concat(all.Next, f.Next)
		all.Told = slices.Concat(all.Told, f.Told)
		all.Violations = slices.Concat(all.Violations, f.Violations)
		all.Operations += f.Operations
		all.Unforced += f.Unforced
		all.Refused += f.Refused
		all.Stuck += f.Stuck
		all.Left.Idle += f.Left.Idle
		all.Left.Keys += f.Left.Keys
		all.Left.Leases += f.Left.Leases
	}
	return all
}

// writeTold writes how soon a process that was stopped was told what it had lost.
func writeTold(w io.Writer, outcomes []*outcome) {
	for _, l := range libraries {
		var all []float64
		for _, o := range outcomes {
			if f := o.sum(l.name); f != nil {
				all = append(all, f.Told...)
			}
		}
		if len(all) > 0 {
			fmt.Fprintf(w, "Told after SIGCONT, %s: median %.1f ms, at the worst %.1f ms, of %d holds of stopped processes.\n\n",
				l.name, median(all), slices.Max(all), len(all))
		}
	}
}

// overlapText is in bold where two held at one time.
func (f *figures) overlapText() string {
	if !f.Exclusive {
		return "-"
	}
	ms := float64(f.Overlap) / float64(time.Millisecond)
	if ms > 0 {
		return fmt.Sprintf("**+%.1f**", ms)
	}
	return fmt.Sprintf("%.1f", ms)
}

// nextText is the median, and the worst in parentheses.
func (f *figures) nextText() string {
	if len(f.Next) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f (%.2f)", median(f.Next), slices.Max(f.Next))
}

func (f *figures) historyText() string {
	if f.History == sound && len(f.Violations) == 0 {
		return string(sound)
	}
	return "**" + string(broken) + "**"
}
