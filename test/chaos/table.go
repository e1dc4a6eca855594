package main

import (
	"fmt"
	"io"
	"strings"
)

// writeTable writes a markdown table: a row for each nemesis and kind, and in each cell
// etcdlock before the control.
func writeTable(w io.Writer, outcomes []*outcome) {
	fmt.Fprintln(w, "| nemesis | workload | overlap, ms | next holder, s | lost for nothing | lost to the fault, to etcd away | left behind | stuck | writes refused | history | operations | etcd away, s |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, o := range outcomes {
		if o.Skipped != "" {
			fmt.Fprintf(w, "| %s | **skipped: %s** |%s\n", o.Nemesis, o.Skipped, strings.Repeat(" |", 10))
			continue
		}
		for _, k := range kinds {
			us, they := o.of(ours.name, k.name), o.of(control.name, k.name)
			if us == nil {
				continue
			}
			cell := func(value func(*figures) string) string {
				if they == nil {
					return value(us)
				}
				return value(us) + " / " + value(they)
			}
			fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %.1f |\n", o.Nemesis, k.name,
				cell((*figures).overlapText), cell((*figures).nextText),
				cell(func(f *figures) string { return fmt.Sprint(f.Unforced) }),
				cell(func(f *figures) string { return fmt.Sprintf("%d, %d", f.Forced, f.Outage) }),
				cell(func(f *figures) string { return fmt.Sprint(f.Left.Idle + f.Left.Keys + f.Left.Leases) }),
				cell(func(f *figures) string { return fmt.Sprint(f.Stuck) }),
				cell(func(f *figures) string { return fmt.Sprint(f.Refused) }),
				cell((*figures).historyText),
				cell(func(f *figures) string { return fmt.Sprint(f.Operations) }),
				o.NoWrites)
		}
	}
}
