package main

import (
	"fmt"
	"html"
	"strconv"
	"strings"
)

// style has a colour for each role, in light and in dark. Each picture has a background of its own,
// so it is readable even if the page and the browser disagree about the scheme.
const style = `
text{font:13px system-ui,-apple-system,"Segoe UI","DejaVu Sans",Helvetica,Arial,sans-serif}
.title{font-weight:600;font-size:15px}
.small{font-size:11px}
.card{fill:#ffffff;stroke:#d0d7de}
.ink{fill:#1f2328}
.dim{fill:#59636e}
.onbar{fill:#ffffff}
.rule{stroke:#d0d7de;stroke-width:1}
.axis{stroke:#59636e;stroke-width:1;fill:none}
.range{stroke:#1f2328;stroke-width:1}
.mark{stroke:#cf222e;stroke-width:1.5;fill:none}
.markink{fill:#cf222e}
.ours{fill:#1b5fb4}
.oursline{stroke:#1b5fb4;stroke-width:2;fill:none}
.theirs{fill:#d65f28}
.theirsline{stroke:#d65f28;stroke-width:2;fill:none}
.other{fill:#2c7a3f}
.wait{fill:#d8dee4}
.away{fill:#fbe3d6}
.dash{stroke-dasharray:4 3}
@media (prefers-color-scheme:dark){
.card{fill:#0d1117;stroke:#3d444d}
.ink{fill:#f0f6fc}
.dim{fill:#9198a1}
.onbar{fill:#0d1117}
.rule{stroke:#3d444d}
.axis{stroke:#9198a1}
.range{stroke:#f0f6fc}
.mark{stroke:#ff7b72}
.markink{fill:#ff7b72}
.ours{fill:#6fa8e8}
.oursline{stroke:#6fa8e8}
.theirs{fill:#f0955f}
.theirsline{stroke:#f0955f}
.other{fill:#56d364}
.wait{fill:#3d444d}
.away{fill:#4a2a1a}
}
`

// canvas collects the elements of one picture.
type canvas struct {
	width, height int
	title, text   string // for readers that do not see the picture
	body          strings.Builder
}

func newCanvas(width, height int, title, text string) *canvas {
	return &canvas{width: width, height: height, title: title, text: text}
}

// number prints a coordinate with at most one decimal, the same on every machine.
func number(x float64) string {
	return strconv.FormatFloat(float64(int(x*10+0.5))/10, 'f', -1, 64)
}

func (c *canvas) add(format string, args ...any) {
	fmt.Fprintf(&c.body, format+"\n", args...)
}

func (c *canvas) rect(class string, x, y, w, h float64) {
	c.add(`<rect class="%s" x="%s" y="%s" width="%s" height="%s" rx="2"/>`, class, number(x), number(y), number(w), number(h))
}

func (c *canvas) line(class string, x1, y1, x2, y2 float64) {
	c.add(`<line class="%s" x1="%s" y1="%s" x2="%s" y2="%s"/>`, class, number(x1), number(y1), number(x2), number(y2))
}

// arrow is a line with a head at its end.
func (c *canvas) arrow(class string, x1, y1, x2, y2 float64) {
	c.add(`<line class="%s" x1="%s" y1="%s" x2="%s" y2="%s" marker-end="url(#head)"/>`, class, number(x1), number(y1), number(x2), number(y2))
}

func (c *canvas) dot(class string, x, y, r float64) {
	c.add(`<circle class="%s" cx="%s" cy="%s" r="%s"/>`, class, number(x), number(y), number(r))
}

// write writes a text with its start, middle or end at x.
func (c *canvas) write(class, anchor string, x, y float64, text string) {
	c.add(`<text class="%s" text-anchor="%s" x="%s" y="%s">%s</text>`, class, anchor, number(x), number(y), html.EscapeString(text))
}

// span draws a bracket from x1 to x2 with a text above it.
func (c *canvas) span(x1, x2, y float64, text string) {
	c.line("axis", x1, y, x2, y)
	c.line("axis", x1, y-4, x1, y+4)
	c.line("axis", x2, y-4, x2, y+4)
	c.write("small ink", "middle", (x1+x2)/2, y-7, text)
}

func (c *canvas) svg() string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`+"\n", c.width, c.height, c.width, c.height)
	fmt.Fprintf(&b, "<title>%s</title>\n<desc>%s</desc>\n<style>%s</style>\n", html.EscapeString(c.title), html.EscapeString(c.text), style)
	b.WriteString(`<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path class="dim" d="M0 0L8 4L0 8z"/></marker></defs>` + "\n")
	fmt.Fprintf(&b, `<rect class="card" x="0.5" y="0.5" width="%d" height="%d" rx="6"/>`+"\n", c.width-1, c.height-1)
	fmt.Fprintf(&b, `<text class="title ink" x="20" y="28">%s</text>`+"\n", html.EscapeString(c.title))
	b.WriteString(c.body.String())
	b.WriteString("</svg>\n")
	return b.String()
}
