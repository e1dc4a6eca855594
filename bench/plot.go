package main

import (
	"cmp"
	"errors"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// drawAll draws a picture for each suite, size of cluster and unit.
func drawAll(dir string, rows []*row) error {
	type sheet struct {
		suite string
		nodes int
		unit  string
	}
	sheets := map[sheet][]*row{}
	for _, r := range rows {
		if r.Metric == smallestShare || r.Metric == medianBeyond || r.Metric == "p99" || r.Metric == "p90" {
			continue // these are in the table
		}
		s := sheet{r.Suite, r.Nodes, r.Unit}
		sheets[s] = append(sheets[s], r)
	}
	for s, rows := range sheets {
		quantity := map[string]string{"µs": "time", "s": "time", "1/s": "rate", "bytes": "bytes", "each": "goroutines"}[s.unit]
		file := fmt.Sprintf("%s-%d-%s.png", s.suite, s.nodes, quantity)
		if err := drawSheet(filepath.Join(dir, file), fmt.Sprintf("%s, %s", s.suite, nodes(s.nodes)), rows); err != nil {
			return fmt.Errorf("draw %s: %w", file, err)
		}
	}
	return nil
}

func nodes(n int) string {
	if n == 1 {
		return "1 etcd node"
	}
	return fmt.Sprintf("%d etcd nodes", n)
}

// drawSheet draws the medians as dots and the rounds' range as whiskers, case by case
// and a colour for each contestant. The scale is logarithmic where that can be: it is
// ratios that one looks for.
func drawSheet(file, title string, rows []*row) error {
	p := plot.New()
	p.Title.Text = title
	p.Y.Label.Text = rows[0].Unit + ", " + rows[0].Better + " is better"
	p.Title.Padding = vg.Points(8)
	p.Legend.Top = true
	p.Legend.Left = false
	p.Legend.XOffs = vg.Points(150) // beside the plot
	p.Legend.Padding = vg.Points(3)

	cases, who := axes(rows)
	for i, contestant := range who {
		dots := &whiskers{}
		for _, r := range rows {
			if r.Contestant == contestant {
				offset := (float64(i) - float64(len(who)-1)/2) * 0.7 / float64(len(who))
				dots.add(float64(slices.Index(cases, caseOf(r)))+offset, r.summary)
			}
		}
		if err := dots.draw(p, contestant, colour(contestant)); err != nil {
			return err
		}
	}
	p.NominalX(cases...)
	p.X.Min, p.X.Max = -0.5, float64(len(cases))-0.5
	if len(cases) > 3 {
		p.X.Tick.Label.Rotation = math.Pi / 8
		p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = draw.XRight, draw.YTop
	}
	if positive(rows) {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
		p.Y.Min = math.Pow(10, math.Floor(math.Log10(p.Y.Min)))
		p.Y.Max = math.Pow(10, math.Ceil(math.Log10(p.Y.Max)))
	} else {
		p.Y.Min = min(p.Y.Min, 0)
	}
	grid := plotter.NewGrid()
	grid.Vertical.Width = 0
	p.Add(grid)
	return save(p, file)
}

// axes are the cases and the contestants, the latter from the most to the least
// important.
func axes(rows []*row) (cases, who []string) {
	for _, r := range rows {
		if c := caseOf(r); !slices.Contains(cases, c) {
			cases = append(cases, c)
		}
		if !slices.Contains(who, r.Contestant) {
			who = append(who, r.Contestant)
		}
	}
	rank := func(key string) int {
		if i := slices.Index([]string{theFloor, theMutex, theLibrary}, key); i >= 0 {
			return i
		}
		return 3
	}
	slices.SortStableFunc(who, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	return cases, who
}

func caseOf(r *row) string {
	switch r.Metric {
	case "p50", "mean", perSecond, "goroutines", beyondTTL, "pairs a second":
		return r.Case
	}
	return r.Case + ", " + r.Metric
}

func positive(rows []*row) bool {
	return !slices.ContainsFunc(rows, func(r *row) bool { return !(r.Min > 0) })
}

// save leaves room beside the plot for the legend.
func save(p *plot.Plot, file string) error {
	const width, height, legend = 26 * vg.Centimeter, 12 * vg.Centimeter, 160
	canvas, err := draw.NewFormattedCanvas(width, height, "png")
	if err != nil {
		return err
	}
	p.Draw(draw.Crop(draw.New(canvas), 0, -vg.Points(legend), 0, 0))
	return write(canvas, file)
}

// whiskers are dots with the range that they come from.
type whiskers struct {
	plotter.XYs
	errors plotter.YErrors
}

func (w *whiskers) add(x float64, s summary) {
	w.XYs = append(w.XYs, plotter.XY{X: x, Y: s.Median})
	w.errors = append(w.errors, struct{ Low, High float64 }{s.Median - s.Min, s.Max - s.Median})
}

// YError is of plotter.YErrorer.
func (w *whiskers) YError(i int) (float64, float64) { return w.errors.YError(i) }

func (w *whiskers) draw(p *plot.Plot, name string, c color.Color) error {
	dots, err := plotter.NewScatter(w)
	if err != nil {
		return err
	}
	dots.GlyphStyle = draw.GlyphStyle{Color: c, Radius: vg.Points(3.5), Shape: draw.CircleGlyph{}}
	bars, err := plotter.NewYErrorBars(w)
	if err != nil {
		return err
	}
	bars.Color, bars.Width = c, vg.Points(1.2)
	p.Add(bars, dots)
	p.Legend.Add(name, dots)
	return nil
}

// colour is the same for a contestant in all pictures.
func colour(contestant string) color.Color {
	if c, ok := colours[contestant]; ok {
		return c
	}
	return color.Black
}

var colours = map[string]color.Color{
	theFloor:            color.Gray{0x90},
	theMutex:            color.RGBA{0xd6, 0x5f, 0x28, 0xff},
	theControl:          color.RGBA{0xf0, 0xb0, 0x90, 0xff},
	theLibrary:          color.RGBA{0x1b, 0x5f, 0xb4, 0xff},
	theRetainer:         color.RGBA{0x6f, 0xa8, 0xe8, 0xff},
	theStrict:           color.RGBA{0x12, 0x35, 0x66, 0xff},
	"redsync, fsync":    color.RGBA{0x8a, 0x4f, 0xb0, 0xff},
	"redsync, memory":   color.RGBA{0xc9, 0xa6, 0xe0, 0xff},
	"redislock, fsync":  color.RGBA{0xb8, 0x2f, 0x5b, 0xff},
	"redislock, memory": color.RGBA{0xe8, 0x9a, 0xb4, 0xff},
	"postgres":          color.RGBA{0x3a, 0x9a, 0x4b, 0xff},
}

func write(canvas vg.CanvasWriterTo, file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = canvas.WriteTo(f)
	return errors.Join(err, f.Close())
}
