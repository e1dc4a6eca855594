// Command pictures draws the pictures of the guides as SVG files in this directory.
//
//	make pictures
//
// The charts take their figures from the tables of the pages that embed them, so a picture and its
// table cannot disagree. The timelines are computed from the formulas of the guides.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// picture is one SVG file. docs is the directory of the guides.
type picture struct {
	file string
	draw func(docs string) (*canvas, error)
}

var pictures = []picture{
	{"lock.svg", func(string) (*canvas, error) { return drawLock(), nil }},
	{"lease.svg", func(string) (*canvas, error) { return drawLease(), nil }},
	{"failover.svg", drawFailover},
	{"chaos.svg", drawChaos},
	{"bench.svg", drawBench},
}

func main() {
	if err := writeAll("docs"); err != nil {
		fmt.Fprintln(os.Stderr, "pictures:", err)
		os.Exit(1)
	}
}

func writeAll(docs string) error {
	for _, p := range pictures {
		c, err := p.draw(docs)
		if err != nil {
			return fmt.Errorf("%s: %w", p.file, err)
		}
		if err := os.WriteFile(filepath.Join(docs, "pictures", p.file), []byte(c.svg()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
