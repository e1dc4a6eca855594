package lockui

import (
	"context"
	"math"
	"net/url"
	"strings"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/deadlock"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// deadlocksPage has the cycles of waits.
type deadlocksPage struct {
	Cycles []cycle `json:"deadlocks"`
}

// cycle is one deadlock. Each edge waits for the next one, and the last for the first.
type cycle struct {
	Edges []edge `json:"waits"`
	Width int    `json:"-"`
	High  int    `json:"-"`
	Tall  int    `json:"-"` // height of the narrow picture
	Text  string `json:"text"`
}

// edge is one wait of a cycle, with its place in the picture.
type edge struct {
	Owner string   `json:"owner"`
	Host  string   `json:"host"`
	PID   int      `json:"pid"`
	Key   string   `json:"waits_with"`
	For   string   `json:"for"`
	Name  string   `json:"name"` // that it waits for
	Has   []string `json:"has"`  // the keys that it holds

	X, Y   int    `json:"-"` // the middle of the process
	Path   string `json:"-"` // of the arrow to the next process
	LX, LY int    `json:"-"` // the middle of the arrow's text
	step   int    // in the narrow picture
}

// The narrow picture is a column that ends with its first process again.
const (
	stepHeight = 126 // from one process to the next
	firstStep  = boxHeight/2 + 8
)

// step is a process in the narrow picture.
type step struct {
	edge
	DownY int
	Again bool // true: the first process, at the end
}

// Steps are the processes of the narrow picture.
func (c cycle) Steps() (all []step) {
	for i := range len(c.Edges) + 1 {
		all = append(all, step{c.Edges[i%len(c.Edges)], firstStep + i*stepHeight, i == len(c.Edges)})
	}
	return all
}

// Down is where the arrow of the narrow picture begins.
func (e edge) Down() int { return firstStep + e.step*stepHeight + boxHeight/2 }

// DownLabel is the line of the arrow's text.
func (e edge) DownLabel() int { return e.Down() + 36 }

// Href is the address of the page of the name that it waits for.
func (e edge) Href() string { return nameRow{Name: e.Name}.Href() }

// cyclesNow finds the cycles of waits in the mirror.
func (h *Handler) cyclesNow() []deadlock.Cycle {
	kvs, _ := h.mirror.Entries()
	return deadlock.Cycles(kvs)
}

// describeDeadlocks is for the doctor and the exporter.
func (h *Handler) describeDeadlocks(context.Context, string) ([]string, error) {
	var all []string
	for _, c := range h.cyclesNow() {
		all = append(all, describe(c))
	}
	return all, nil
}

func describe(c deadlock.Cycle) string {
	d := make(etcdlock.Deadlock, 0, len(c))
	for _, w := range c {
		d = append(d, etcdlock.DeadlockEdge{Waiter: queueEntry(w.Waiter), For: queueEntry(w.For)})
	}
	return d.String()
}

func queueEntry(c *queue.Contender) etcdlock.QueueEntry {
	return etcdlock.QueueEntry{Key: string(c.Key), Owner: c.Want.Owner, Host: c.Want.Host, PID: c.Want.PID}
}

func (h *Handler) deadlocks(url.Values) (*shown, error) {
	p := &deadlocksPage{Cycles: []cycle{}}
	for _, c := range h.cyclesNow() {
		p.Cycles = append(p.Cycles, draw(c))
	}
	return &shown{"Deadlocks", p}, nil
}

// The sizes of the picture of a deadlock.
const (
	boxWidth, boxHeight = 190, 56
	pictureMargin       = 24
)

// draw places the processes of a cycle on an ellipse, clockwise from the left.
func draw(c deadlock.Cycle) cycle {
	n := len(c)
	rx, ry := 235.0, 90.0
	if n > 2 {
		rx, ry = max(235, float64(n)*62), max(130, float64(n)*42)
	}
	out := cycle{Width: int(2*rx) + boxWidth + 2*pictureMargin, High: int(2*ry) + boxHeight + 2*pictureMargin, Text: describe(c)}
	if n == 2 {
		out.High = 220
	}
	out.Tall = firstStep*2 + n*stepHeight
	at := func(i int) (x, y float64) {
		angle := math.Pi + 2*math.Pi*float64(i)/float64(n)
		return float64(out.Width)/2 + rx*math.Cos(angle), float64(out.High)/2 + ry*math.Sin(angle)
	}
	for i, w := range c {
		e := edge{
			Owner: w.Waiter.Want.Owner, Host: w.Waiter.Want.Host, PID: w.Waiter.Want.PID,
			Key: string(w.Waiter.Key), For: string(w.For.Key), Has: w.Waiter.Want.Holds,
		}
		e.Name, _ = wire.NameOf(e.For)
		x, y := at(i)
		tx, ty := at((i + 1) % n)
		e.X, e.Y, e.step = int(x), int(y), i
		e.arrow(x, y, tx, ty)
		out.Edges = append(out.Edges, e)
	}
	return out
}

// arrow makes the bent line from one box to another, and the place of its text.
func (e *edge) arrow(x, y, tx, ty float64) {
	dx, dy := tx-x, ty-y
	length := math.Hypot(dx, dy)
	nx, ny := dy/length, -dx/length // to the outside of a clockwise cycle
	bend := 56.0
	cx, cy := (x+tx)/2+nx*bend, (y+ty)/2+ny*bend
	x1, y1 := border(x, y, cx, cy, 0)
	x2, y2 := border(tx, ty, cx, cy, 6)
	e.Path = path(x1, y1, cx, cy, x2, y2)
	// The middle of a quadratic curve lies halfway between its control point and the middle of its ends.
	e.LX, e.LY = int((x1+x2)/4+cx/2), int((y1+y2)/4+cy/2)
	if ny < 0 {
		e.LY -= 8
	} else {
		e.LY += 18
	}
}

// border is where the line from the middle of a box to a point leaves the box, and the distance behind it.
func border(x, y, tx, ty, gap float64) (bx, by float64) {
	dx, dy := tx-x, ty-y
	part := min(math.Abs((boxWidth/2)/dx), math.Abs((boxHeight/2)/dy))
	length := math.Hypot(dx, dy)
	return x + dx*part + dx/length*gap, y + dy*part + dy/length*gap
}

func path(x1, y1, cx, cy, x2, y2 float64) string {
	var b strings.Builder
	for i, v := range []float64{x1, y1, cx, cy, x2, y2} {
		b.WriteString([]string{"M", " ", " Q", " ", " ", " "}[i])
		b.WriteString(trim(v))
	}
	return b.String()
}
