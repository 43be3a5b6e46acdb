package fleetbench

import (
	"errors"
	"fmt"
	"image/color"
	"path/filepath"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// Plot draws the time of a task against the number of endpoints, on logarithmic axes,
// where proportional growth is a straight line. The name of file ends in .svg or .png.
func Plot(file string, results []Result) error {
	if e := filepath.Ext(file); e != ".svg" && e != ".png" {
		return fmt.Errorf("a plot must be .svg or .png, not %q", e)
	}
	if len(results) == 0 {
		return errors.New("no results to plot")
	}
	p := plot.New()
	p.Title.Text = "One task to all endpoints (" + results[0].Transport + ", " + results[0].Database + ")"
	p.X.Label.Text, p.Y.Label.Text = "endpoints", "milliseconds"
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = endpointTicks(results), plot.LogTicks{Prec: -1}
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	series := []struct {
		name  string
		width vg.Length // of the line: the lower one is wider, so that both are visible
		color color.Color
		value func(Result) float64
	}{
		{"finished", vg.Points(5), color.RGBA{R: 0x1f, G: 0x77, B: 0xb4, A: 0xff}, func(r Result) float64 { return r.FinishedMS }},
		{"received", vg.Points(1.5), color.RGBA{R: 0x2c, G: 0xa0, B: 0x2c, A: 0xff}, func(r Result) float64 { return r.ReceivedMS }},
		{"plain loop", vg.Points(1.5), color.RGBA{R: 0x7f, G: 0x7f, B: 0x7f, A: 0xff}, func(r Result) float64 {
			if r.RawMS == nil {
				return 0
			}
			return *r.RawMS
		}},
	}
	for _, s := range series {
		var points plotter.XYs
		for _, r := range results {
			if v := s.value(r); v > 0 {
				points = append(points, plotter.XY{X: float64(r.Endpoints), Y: v})
			}
		}
		if len(points) == 0 {
			continue
		}
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return fmt.Errorf("plot %s: %w", s.name, err)
		}
		line.Color, dots.Color, line.Width = s.color, s.color, s.width
		p.Add(line, dots)
		p.Legend.Add(s.name, line, dots)
	}
	if err := p.Save(18*vg.Centimeter, 11*vg.Centimeter, file); err != nil {
		return fmt.Errorf("write the plot: %w", err)
	}
	return nil
}

// endpointTicks marks the measured numbers of endpoints.
func endpointTicks(results []Result) plot.Ticker {
	var ticks plot.ConstantTicks
	for _, r := range results {
		ticks = append(ticks, plot.Tick{Value: float64(r.Endpoints), Label: strconv.Itoa(r.Endpoints)})
	}
	return ticks
}
