package watch

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
	"github.com/MatthiasWiesner/tasker/cmd/tasker/internal/describe"
	"github.com/MatthiasWiesner/tasker/internal/terminal"
)

// unreachableNotice is shown below a state that may be outdated.
const unreachableNotice = "the control plane cannot be reached; last known state"

// liveView draws a task, and again after each change and each second: a line per endpoint,
// or the board of a rollout.
type liveView struct {
	out      io.Writer
	screen   Screen
	controls *Controls
	cancel   context.CancelFunc
	ticked   chan struct{}

	mu    sync.Mutex
	state client.State
	drawn []int // widths of the lines on the screen
}

// NewLive starts a live view on a terminal; End must be called.
func NewLive(ctx context.Context, out io.Writer, s Screen, d *Controls) View {
	l := &liveView{out: out, screen: s, controls: d, ticked: make(chan struct{})}
	ctx, l.cancel = context.WithCancel(ctx)
	d.init(ctx, l.redraw, l.afresh)
	go l.tick(ctx)
	return l
}

func (l *liveView) tick(ctx context.Context) {
	defer close(l.ticked)
	l.controls.guard(func() {
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

func (l *liveView) redraw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.draw()
}

// afresh draws below what the terminal shows.
func (l *liveView) afresh() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drawn = nil
	l.draw()
}

func (l *liveView) Show(s client.State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = s
	if s.Task.Rollout != nil {
		l.controls.start(s.Task)
	}
	l.draw()
}

// End leaves the last state on the screen, without keys.
func (l *liveView) End(last client.State) error {
	l.cancel()
	<-l.ticked
	l.controls.end(last.Task.FinishedAt != nil)
	l.redraw()
	return nil
}

// draw replaces the lines on the screen with one write, which avoids flicker.
func (l *liveView) draw() {
	if l.state.Task.ID == "" {
		return
	}
	width, height := l.screen.Size()
	var b bytes.Buffer
	linesUp := 0
	for _, w := range l.drawn {
		linesUp += max((w+width-1)/width, 1) // a narrower terminal has wrapped the line
	}
	if linesUp > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", linesUp)
	}
	l.drawn = l.drawn[:0]
	rows := l.rows(width, height)
	if l.state.Task.Rollout != nil {
		rows = l.controls.board(l.state, l.screen.Colour).rows(width, height)
	}
	for _, row := range rows {
		b.WriteString("\r" + row + "\x1b[K\n")
		l.drawn = append(l.drawn, text.StringWidthWithoutEscSequences(row))
	}
	b.WriteString("\x1b[J")
	_, _ = l.out.Write(b.Bytes()) // a closed terminal ends the program by a signal
}

// rows returns the headline and as many endpoints as fit. If not all fit, those that need
// attention come first.
func (l *liveView) rows(width, height int) []string {
	responses := slices.Clone(l.state.Responses)
	fit := max(height-3, 1)
	if l.state.StreamErr != nil {
		fit = max(fit-1, 1)
	}
	hidden := len(responses) - fit
	if hidden > 0 {
		slices.SortStableFunc(responses, func(a, b tasker.Response) int { return attentionRank(a) - attentionRank(b) })
		responses = responses[:fit]
	}
	names := 0
	for _, r := range responses {
		names = max(names, len(r.Endpoint))
	}
	rows := []string{text.Snip(describe.Headline(l.state.Task), width-1, "…")}
	for _, r := range responses {
		row := fmt.Sprintf("  %-*s  %s", names, terminal.OneLine(r.Endpoint), progress(r))
		row = text.Snip(row, width-1, "…")
		rows = append(rows, l.screen.paint(r.Status, row))
	}
	if hidden > 0 {
		rows = append(rows, fmt.Sprintf("  and %d more", hidden))
	}
	if l.state.StreamErr != nil {
		rows = append(rows, text.Snip(unreachableNotice, width-1, "…"))
	}
	return rows
}
