package main

import (
	"bytes"
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
	"github.com/MatthiasWiesner/tasker/internal/client"
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

// live draws a line per endpoint and draws it anew with each change and second.
type live struct {
	out    io.Writer
	screen screen
	stop   chan struct{}
	done   chan struct{}

	mu    sync.Mutex
	state client.State
	drawn int // lines on the screen
}

// newLive begins; end must be called.
func newLive(out io.Writer, s screen) *live {
	l := &live{out: out, screen: s, stop: make(chan struct{}), done: make(chan struct{})}
	go l.tick()
	return l
}

func (l *live) tick() {
	defer close(l.done)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			l.mu.Lock()
			l.draw()
			l.mu.Unlock()
		case <-l.stop:
			return
		}
	}
}

func (l *live) show(s client.State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = s
	l.draw()
}

func (l *live) end(client.State) error {
	close(l.stop)
	<-l.done
	return nil
}

// draw replaces the lines on the screen in one write, so that nothing flickers.
func (l *live) draw() {
	if l.state.Task.ID == "" {
		return
	}
	width, height := l.screen.size()
	var b bytes.Buffer
	if l.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", l.drawn)
	}
	rows := l.rows(width, height)
	for _, row := range rows {
		b.WriteString("\r" + row + "\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	l.drawn = len(rows)
	_, _ = l.out.Write(b.Bytes()) // a terminal that is gone ends the program by a signal
}

// rows are the headline and as many endpoints as fit, those that need attention
// first if not all do.
func (l *live) rows(width, height int) []string {
	responses := slices.Clone(l.state.Responses)
	fit := max(height-3, 1)
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
		row := fmt.Sprintf("  %-*s  %s", names, plain(r.Endpoint), l.bar(r))
		row = text.Snip(row, width-1, "…")
		rows = append(rows, l.paint(r.Status, row))
	}
	if hidden > 0 {
		rows = append(rows, fmt.Sprintf("  and %d more", hidden))
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

// bar is the status with the progress drawn.
func (l *live) bar(r tasker.Response) string {
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
func (l *live) paint(s tasker.ResponseStatus, row string) string {
	if !l.screen.colour {
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
