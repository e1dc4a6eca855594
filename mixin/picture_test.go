package mixin

import (
	"bytes"
	"image/color"
	"math"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/etcdlock/etcdlock/mixin/internal/promdb"
)

// The picture has the panels of the first rows, at the places that the dashboard gives them.
const (
	pictureRows = 4
	across      = vg.Length(36) // a unit of Grafana's grid, of which a line has 24
	down        = vg.Length(20)
	resolution  = 30 * time.Second
)

// red is the colour of alerts, and no other.
var (
	red    = color.NRGBA{R: 207, G: 34, B: 46, A: 255}
	colors = []color.Color{
		color.NRGBA{R: 27, G: 95, B: 180, A: 255}, color.NRGBA{R: 214, G: 145, B: 20, A: 255}, color.NRGBA{R: 44, G: 122, B: 63, A: 255},
		color.NRGBA{R: 130, G: 80, B: 200, A: 255}, color.NRGBA{R: 20, G: 150, B: 160, A: 255}, color.NRGBA{R: 110, G: 110, B: 110, A: 255},
	}
)

// drawDashboard draws the hour from began on. A red line is an alert that begins to fire.
func drawDashboard(t *testing.T, file string, db *promdb.DB, began time.Time) {
	all := panels(t)
	rows, height := 0, 0.0
	for i, p := range all {
		if p.Type == "row" {
			rows++
		}
		if rows > pictureRows {
			all = all[:i]
			break
		}
		height = max(height, p.GridPos.Y+p.GridPos.H)
	}
	fired := firings(t, db, began)
	plot.DefaultFont.Variant = "Sans"
	canvas := vgsvg.New(24*across, vg.Length(height)*down)
	for _, p := range all {
		g := p.GridPos
		part := draw.Canvas{Canvas: canvas, Rectangle: vg.Rectangle{
			Min: vg.Point{X: vg.Length(g.X) * across, Y: vg.Length(height-g.Y-g.H) * down},
			Max: vg.Point{X: vg.Length(g.X+g.W) * across, Y: vg.Length(height-g.Y) * down},
		}}
		panelOf(t, db, &p, began, fired).Draw(draw.Crop(part, 6, -6, 4, -4))
	}
	var svg bytes.Buffer
	_, err := canvas.WriteTo(&svg)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, svg.Bytes(), 0o600))
}

// firings are the minutes at which alerts begin to fire.
func firings(t *testing.T, db *promdb.DB, began time.Time) (minutes []float64) {
	rules, err := promdb.Rules("alerts.yaml")
	require.NoError(t, err)
	for _, r := range rules {
		fired, err := db.Fire(&r, began, began.Add(time.Hour), scrapes)
		require.NoError(t, err)
		for _, f := range fired {
			minutes = append(minutes, f.From.Sub(began).Minutes())
		}
	}
	return minutes
}

// panelOf draws one panel. A row is a title alone.
func panelOf(t *testing.T, db *promdb.DB, p *shown, began time.Time, fired []float64) *plot.Plot {
	drawn := plot.New()
	drawn.Title.Text = p.Title
	drawn.Title.TextStyle.Font.Size = 10
	if p.Type == "row" {
		drawn.HideAxes()
		drawn.Title.TextStyle.Font.Size = 13
		return drawn
	}
	drawn.X.Min, drawn.X.Max, drawn.Y.Min, drawn.Y.Max = 0, 60, 0, 1
	drawn.X.Tick.Label.Font.Size, drawn.Y.Tick.Label.Font.Size, drawn.Legend.TextStyle.Font.Size = 8, 8, 7
	drawn.Legend.Top = true
	n := 0
	for _, q := range p.Targets {
		matrix, err := db.Range(resolve(q.Expr, resolution), began, began.Add(time.Hour), resolution)
		require.NoError(t, err)
		for _, s := range matrix {
			name := legend(q.LegendFormat, s.Metric)
			var part plotter.XYs
			add := func() {
				if len(part) > 0 {
					line, err := plotter.NewLine(part)
					require.NoError(t, err)
					line.Color = colors[n%len(colors)]
					drawn.Add(line)
					if name != "" {
						drawn.Legend.Add(name, line)
					}
				}
				part, name = nil, ""
			}
			for i, f := range s.Floats {
				if i > 0 && f.T-s.Floats[i-1].T > resolution.Milliseconds() || math.IsNaN(f.F) {
					add() // a gap
				}
				if !math.IsNaN(f.F) {
					part = append(part, plotter.XY{X: time.UnixMilli(f.T).Sub(began).Minutes(), Y: f.F})
				}
			}
			add()
			n++
		}
	}
	drawn.Y.Max *= 1.3 // for the legend
	for _, at := range fired {
		line, err := plotter.NewLine(plotter.XYs{{X: at, Y: 0}, {X: at, Y: drawn.Y.Max}})
		require.NoError(t, err)
		line.Color, line.Width, line.Dashes = red, 0.5, plotutil.Dashes(1)
		drawn.Add(line)
	}
	return drawn
}

// legend fills the labels of a series into the format of a legend.
func legend(format string, metric labels.Labels) string {
	return regexp.MustCompile(`{{(\w+)}}`).ReplaceAllStringFunc(format, func(label string) string {
		return metric.Get(label[2 : len(label)-2])
	})
}
