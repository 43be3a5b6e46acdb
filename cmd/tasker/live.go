package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
)

// screen is what a live view is drawn on.
type screen struct {
	// size returns columns and rows.
	size   func() (width, height int)
	colour bool
}

func screenOf(f *os.File, env func(string) (string, bool)) screen {
	noColour, _ := env("NO_COLOR") // https://no-color.org
	return screen{
		colour: noColour == "",
		size: func() (int, int) {
			if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 && h > 0 { //nolint:gosec // a file descriptor is an int
				return w, h
			}
			return 80, 24
		},
	}
}

// unheard is said below what may no longer be so.
const unheard = "the control plane cannot be reached: this is how it was"

// live draws a task and draws it anew with each change and second: a line per
// endpoint, or a rollout's board.
type live struct {
	out    io.Writer
	screen screen
	desk   *desk
	cancel context.CancelFunc
	ticked chan struct{}

	mu    sync.Mutex
	state client.State
	drawn []int // the widths of the lines on the screen
}

// newLive begins; end must be called.
func newLive(ctx context.Context, out io.Writer, s screen, d *desk) *live {
	l := &live{out: out, screen: s, desk: d, ticked: make(chan struct{})}
	ctx, l.cancel = context.WithCancel(ctx)
	d.begin(ctx, l.redraw, l.afresh)
	go l.tick(ctx)
	return l
}

func (l *live) tick(ctx context.Context) {
	defer close(l.ticked)
	l.desk.guard(func() {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				l.redraw()
			case <-ctx.Done():
				return
			}
		}
	})
}

func (l *live) redraw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.draw()
}

// afresh draws below what is on the screen.
func (l *live) afresh() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drawn = nil
	l.draw()
}

func (l *live) show(s client.State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = s
	if s.Task.Rollout != nil {
		l.desk.sit(s.Task)
	}
	l.draw()
}

// end leaves the last state on the screen, without what a person could do.
func (l *live) end(last client.State) error {
	l.cancel()
	<-l.ticked
	l.desk.end(last.Task.FinishedAt != nil)
	l.redraw()
	return nil
}

// draw replaces the lines on the screen in one write, so that nothing flickers.
func (l *live) draw() {
	if l.state.Task.ID == "" {
		return
	}
	width, height := l.screen.size()
	var b bytes.Buffer
	up := 0
	for _, w := range l.drawn {
		up += max((w+width-1)/width, 1) // a terminal that has become narrower has wrapped it
	}
	if up > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", up)
	}
	l.drawn = l.drawn[:0]
	rows := l.rows(width, height)
	if l.state.Task.Rollout != nil {
		rows = l.desk.board(l.state, l.screen.colour).rows(width, height)
	}
	for _, row := range rows {
		b.WriteString("\r" + row + "\x1b[K\n")
		l.drawn = append(l.drawn, text.StringWidthWithoutEscSequences(row))
	}
	b.WriteString("\x1b[J")
	_, _ = l.out.Write(b.Bytes()) // a terminal that is gone ends the program by a signal
}

// rows are the headline and as many endpoints as fit, those that need attention
// first if not all do.
func (l *live) rows(width, height int) []string {
	responses := slices.Clone(l.state.Responses)
	fit := max(height-3, 1)
	if l.state.StreamErr != nil {
		fit = max(fit-1, 1)
	}
	hidden := len(responses) - fit
	if hidden > 0 {
		slices.SortStableFunc(responses, func(a, b tasker.Response) int { return attention(a) - attention(b) })
		responses = responses[:fit]
	}
	names := 0
	for _, r := range responses {
		names = max(names, len(r.Endpoint))
	}
	rows := []string{text.Snip(headline(l.state.Task), width-1, "…")}
	for _, r := range responses {
		row := fmt.Sprintf("  %-*s  %s", names, plain(r.Endpoint), progress(r))
		row = text.Snip(row, width-1, "…")
		rows = append(rows, l.screen.paint(r.Status, row))
	}
	if hidden > 0 {
		rows = append(rows, fmt.Sprintf("  and %d more", hidden))
	}
	if l.state.StreamErr != nil {
		rows = append(rows, text.Snip(unheard, width-1, "…"))
	}
	return rows
}

// attention orders what a person wants to see first.
func attention(r tasker.Response) int {
	switch {
	case r.Status == tasker.Succeeded:
		return 2
	case r.Status.Ended():
		return 0
	default:
		return 1
	}
}

// progress is the status with the progress drawn.
func progress(r tasker.Response) string {
	const cells = 20
	if r.Status.Ended() {
		return describe(r)
	}
	s := fmt.Sprintf("%-9s", r.Status)
	if r.Progress != nil {
		full := min(max(int(r.Progress.Percent/100*cells), 0), cells)
		s += fmt.Sprintf("  %s%s %3.0f%%", strings.Repeat("━", full), strings.Repeat("─", cells-full), r.Progress.Percent)
	}
	if r.StartedAt != nil {
		s += fmt.Sprintf("  %s", max(time.Since(*r.StartedAt), 0).Round(time.Second))
	}
	if w := what(r); w != "" {
		s += "  " + plain(w)
	}
	return s
}

// paint colours a line by the status in it.
func (c screen) paint(s tasker.ResponseStatus, row string) string {
	if !c.colour || row == "" {
		return row
	}
	colour := ""
	switch {
	case s == tasker.Succeeded:
		colour = "32"
	case s == tasker.Cancelled || s == tasker.Skipped:
		colour = "33"
	case s.Ended():
		colour = "31"
	default:
		return row
	}
	return "\x1b[" + colour + "m" + row + "\x1b[0m"
}
