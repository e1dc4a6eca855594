package main

import (
	"image/color"
	"math"
	"strconv"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// drawOverlaps draws the worst overlap of each nemesis, etcdlock beside the control:
// above the line at 0 two held at one time, below it is the shortest gap between two.
// The scale is logarithmic both ways, as a gap is of milliseconds and an overlap of
// seconds.
func drawOverlaps(file string, outcomes []*outcome) error {
	p := plot.New()
	p.Title.Text = "Worst overlap of two holders under each nemesis: above 0, two held at one time"
	p.Title.Padding = vg.Points(8)
	p.Y.Label.Text = "ms"
	cases, series := overlaps(outcomes)
	if len(cases) == 0 {
		return nil
	}
	zero := plotter.NewFunction(func(float64) float64 { return 0 })
	zero.Width = vg.Points(1.5)
	zero.XMin, zero.XMax = -0.5, float64(len(cases))-0.5
	grid := plotter.NewGrid()
	grid.Vertical.Width = 0
	p.Add(grid)
	for i, l := range libraries {
		if len(series[l.name]) == 0 {
			continue
		}
		const width = 10
		bars, err := plotter.NewBarChart(series[l.name], vg.Points(width))
		if err != nil {
			return err
		}
		bars.Color = []color.Color{color.RGBA{0x1b, 0x5f, 0xb4, 0xff}, color.RGBA{0xd6, 0x5f, 0x28, 0xff}}[i]
		bars.LineStyle.Width = 0
		bars.Offset = vg.Points(width * (float64(i) - 0.5))
		p.Add(bars)
		p.Legend.Add([]string{"etcdlock", "etcd's own session"}[i], bars)
	}
	p.Add(zero)
	p.Legend.Top = true
	p.Legend.XOffs = vg.Points(-4)
	p.NominalX(cases...)
	p.X.Min, p.X.Max = -0.5, float64(len(cases))-0.5
	p.X.Tick.Label.Rotation = math.Pi / 6
	p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = draw.XRight, draw.YTop
	p.Y.Min, p.Y.Max = compress(-100), compress(10_000)
	p.Y.Tick.Marker = plot.ConstantTicks(ticks(-100, -10, -1, 0, 1, 10, 100, 1000, 10_000))
	return p.Save(28*vg.Centimeter, 13*vg.Centimeter, file)
}

// overlaps are the nemeses that were run, and the bars of each library.
func overlaps(outcomes []*outcome) (cases []string, series map[string]plotter.Values) {
	series = map[string]plotter.Values{}
	for _, o := range outcomes {
		if o.Skipped != "" {
			continue
		}
		cases = append(cases, o.Nemesis)
		for _, l := range libraries {
			worst, taken := none, false
			for _, f := range o.Groups {
				if f.Library == l.name {
					taken = true
					if f.Exclusive {
						worst = max(worst, f.Overlap)
					}
				}
			}
			bar := 0.0
			if worst != none {
				bar = compress(float64(worst) / float64(time.Millisecond))
			}
			if taken {
				series[l.name] = append(series[l.name], bar)
			}
		}
	}
	return cases, series
}

// compress is a logarithm that goes through 0 and keeps the sign.
func compress(ms float64) float64 { return math.Copysign(math.Log10(1+math.Abs(ms)), ms) }

func ticks(values ...float64) (all []plot.Tick) {
	for _, v := range values {
		all = append(all, plot.Tick{Value: compress(v), Label: strconv.FormatFloat(v, 'f', -1, 64)})
	}
	return all
}
