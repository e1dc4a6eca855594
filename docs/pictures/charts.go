package main

import (
	"fmt"
	"math"
	"strings"
)

// drawFailover shows for how long an election has no leader, by the table of performance.md.
func drawFailover(docs string) (*canvas, error) {
	rows, err := table(docs, "performance.md", "how the leader goes", "etcd's Election", "etcdlock")
	if err != nil {
		return nil, err
	}
	const top, step, left, scale = 74.0, 52.0, 320.0, 50.0
	height := top + step*float64(len(rows)) + 62
	c := newCanvas(880, int(height), "Time without a leader, in seconds",
		"For each way in which a leader goes: the median time until the next leader works, with the shortest and the longest, "+
			"for etcdlock and for etcd's Election. The table beside the picture has the figures.")
	legend(c, 20, 50, "etcdlock", "etcd's Election")
	bottom := height - 50
	for t := 0.0; t <= 10; t += 2 {
		c.line("rule", left+t*scale, top-6, left+t*scale, bottom)
		c.write("small dim", "middle", left+t*scale, bottom+16, fmt.Sprintf("%.0f s", t))
	}
	for i, row := range rows {
		y := top + step*float64(i)
		c.write("ink", "start", 20, y+24, row[0])
		for _, who := range []struct {
			cell, bar, line string
			y               float64
		}{{row[2], "ours", "oursline", y + 4}, {row[1], "theirs", "theirsline", y + 24}} {
			if who.cell == "-" {
				c.write("small dim", "start", left+6, who.y+12, "has none")
				continue
			}
			times, err := figures(strings.Split(who.cell, ", "), 0, 1, 2)
			if err != nil {
				return nil, err
			}
			c.rect(who.bar, left, who.y, max(times[1]*scale, 2), 15)
			if times[2]-times[0] > 0.1 {
				c.line("range", left+times[0]*scale, who.y+7.5, left+times[2]*scale, who.y+7.5)
				c.line("range", left+times[0]*scale, who.y+4, left+times[0]*scale, who.y+11)
				c.line("range", left+times[2]*scale, who.y+4, left+times[2]*scale, who.y+11)
			}
			c.write("small ink", "start", left+times[2]*scale+8, who.y+12, seconds(times[1]))
		}
	}
	c.write("small dim", "start", 20, height-14, "Bars are medians, lines the shortest and the longest time. From the order to resign, or from kill -9, to the start of the next leader's work.")
	return c, nil
}

func seconds(s float64) string {
	if s < 1 {
		return fmt.Sprintf("%.0f ms", s*1000)
	}
	return fmt.Sprintf("%.2f s", s)
}

func legend(c *canvas, x, y float64, ours, theirs string) {
	c.rect("ours", x, y-10, 12, 12)
	c.write("ink", "start", x+18, y, ours)
	c.rect("theirs", x+120, y-10, 12, 12)
	c.write("ink", "start", x+138, y, theirs)
}

// drawChaos shows the worst overlap of two holders under each fault, by the table of verification.md.
func drawChaos(docs string) (*canvas, error) {
	rows, err := table(docs, "verification.md", "fault", "etcdlock, ms", "etcd's own, ms")
	if err != nil {
		return nil, err
	}
	const top, step, left, scale = 84.0, 27.0, 330.0, 0.31
	height := top + step*float64(len(rows)) + 54
	c := newCanvas(880, int(height), "Longest time with two holders, in milliseconds",
		"For each injected fault: the longest time for which two processes held the lock at once. It is never more than zero "+
			"for etcdlock, and up to 1.5 seconds for etcd's own session. The table beside the picture has the figures.")
	legend(c, 20, 52, "etcdlock", "etcd's own session")
	bottom := height - 46
	for ms := 0.0; ms <= 1500; ms += 250 {
		c.line("rule", left+ms*scale, top-8, left+ms*scale, bottom)
		c.write("small dim", "middle", left+ms*scale, bottom+16, fmt.Sprintf("%.0f", ms))
	}
	c.line("axis", left, top-8, left, bottom)
	for i, row := range rows {
		overlap, err := figures(row, 1, 2)
		if err != nil {
			return nil, err
		}
		y := top + step*float64(i)
		c.write("ink", "start", 20, y+13, row[0])
		for j, class := range []string{"ours", "theirs"} {
			bar := y + float64(j)*11
			if overlap[j] <= 0 {
				c.rect(class, left-3, bar, 3, 9)
				continue
			}
			c.rect(class, left, bar, max(overlap[j]*scale, 2), 9)
			c.write("small ink", "start", left+overlap[j]*scale+6, bar+9, fmt.Sprintf("%.0f ms", overlap[j]))
		}
	}
	c.write("small dim", "start", 20, height-10, "A mark left of zero means no overlap: the next process held only after the former one had stopped. TTL 3 s.")
	return c, nil
}

// drawBench shows contention and handover, by the table of performance.md.
func drawBench(docs string) (*canvas, error) {
	rows, err := table(docs, "performance.md", "", "Mutex, 1 node", "etcdlock")
	if err != nil {
		return nil, err
	}
	c := newCanvas(880, 372, "Contention and handover, beside etcd's Mutex",
		"Left: acquisitions a second of one name by 2 to 128 processes. Right: time of a handover to a waiter that is "+
			"5, 30 or 250 ms old. etcdlock and etcd's Mutex, on one and on three nodes. The table beside the picture has the figures.")
	processes := panel{x: 70, title: "acquisitions a second of one name (more is better)", low: 10, high: 10_000, axis: "processes", oursAbove: true}
	handover := panel{x: 520, title: "handover to a waiter, µs (less is better)", low: 100, high: 100_000, axis: "age of the waiter"}
	for _, row := range rows {
		words := strings.Fields(row[0])
		var p *panel
		name := words[0]
		switch {
		case strings.HasPrefix(row[0], "handover to a waiter"):
			p, name = &handover, words[4]+" ms"
		case len(words) > 1 && words[1] == "processes" && !strings.Contains(row[0], "goroutines"):
			p = &processes
		default:
			continue
		}
		values, err := figures(row, 1, 2, 4, 5)
		if err != nil {
			return nil, err
		}
		p.names = append(p.names, name)
		for i := range values {
			p.lines[i] = append(p.lines[i], values[i])
		}
	}
	if len(processes.names) != 4 || len(handover.names) != 3 {
		return nil, fmt.Errorf("performance.md: %d rows of processes and %d of handovers", len(processes.names), len(handover.names))
	}
	processes.draw(c)
	handover.draw(c)
	legend(c, 20, 350, "etcdlock", "etcd's Mutex")
	c.write("small dim", "start", 330, 350, "full line: one etcd node, dashed line: three. Medians of three rounds, logarithmic scales.")
	return c, nil
}

// panel is a chart with a logarithmic scale and four lines: Mutex and etcdlock on one node, then on
// three.
type panel struct {
	x           float64
	title, axis string
	low, high   float64
	oursAbove   bool // the line of etcdlock is above the other one
	names       []string
	lines       [4][]float64
}

func (p *panel) draw(c *canvas) {
	const width, top, bottom = 320.0, 74.0, 282.0
	y := func(value float64) float64 {
		return bottom - (bottom-top)*math.Log(value/p.low)/math.Log(p.high/p.low)
	}
	x := func(i int) float64 { return p.x + width*(float64(i)+0.5)/float64(len(p.names)) }
	c.write("ink", "start", p.x-50, 56, p.title)
	for value := p.low; value <= p.high; value *= 10 {
		c.line("rule", p.x, y(value), p.x+width, y(value))
		c.write("small dim", "end", p.x-6, y(value)+4, thousands(value))
	}
	for i, name := range p.names {
		c.write("small ink", "middle", x(i), bottom+18, name)
	}
	c.write("small dim", "middle", p.x+width/2, bottom+36, p.axis)
	for l, class := range []string{"theirs", "ours", "theirs", "ours"} {
		dash := ""
		if l >= 2 {
			dash = " dash"
		}
		for i, value := range p.lines[l] {
			if i > 0 {
				c.line(class+"line"+dash, x(i-1), y(p.lines[l][i-1]), x(i), y(value))
			}
			c.dot(class, x(i), y(value), 3.5)
			if l < 2 {
				p.label(c, i, x(i), y(value), value, (l == 1) == p.oursAbove)
			}
		}
	}
}

// label writes a value beside its point: the last one to the right, the others above or below.
func (p *panel) label(c *canvas, i int, x, y, value float64, above bool) {
	switch {
	case i == len(p.names)-1:
		c.write("small ink", "start", x+8, y+4, thousands(value))
	case above:
		c.write("small ink", "middle", x, y-8, thousands(value))
	default:
		c.write("small ink", "middle", x, y+17, thousands(value))
	}
}

// thousands prints a whole number with a comma before each group of three digits.
func thousands(x float64) string {
	s := fmt.Sprintf("%.0f", x)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
