package watch

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
	"github.com/MatthiasWiesner/tasker/cmd/tasker/internal/describe"
	"github.com/MatthiasWiesner/tasker/internal/terminal"
)

const (
	// maxTails limits the endpoints whose last lines are requested and shown.
	maxTails = 8
	// narrowWidth is the number of columns below which lines are shortened.
	narrowWidth = 60
)

// board is one frame of a rollout, of at most one screen.
type board struct {
	state  client.State
	screen Screen
	now    time.Time
	// usual is the usual run time of an endpoint; zero is unknown.
	usual time.Duration
	// tails are the last lines of output by endpoint.
	tails map[string]string
	// footer is the last line; empty is none.
	footer string
}

// rows returns, from top to bottom: the task, a line per wave, the endpoints that need
// attention, and the keys.
func (b board) rows(width, height int) []string {
	width-- // a full line would wrap
	left := max(height-1, 4)
	head, footer := b.head(width, max(left/8, 1)), b.keys(width)
	left -= len(head) + len(footer)
	list, earlier := waves(b.state)
	want := len(list)
	if len(earlier) > 0 {
		want++
	}
	need := b.linesNeeded()
	lines := max(min(want, left-min(need+1, left/2)), 1)
	rows := append(head, b.waves(list, earlier, lines, width)...)
	rows = append(rows, b.endpoints(left-lines, width)...)
	if room := height - 1 - len(footer); len(rows) > room {
		rows = rows[:max(room, 0)]
	} else if len(footer) > 0 && len(rows) < room {
		rows = append(rows, "")
	}
	return append(rows, footer...)
}

// head returns the task, its state and its counts, in at most maxLines lines each.
func (b board) head(width, maxLines int) []string {
	t := b.state.Task
	state := string(t.Status)
	if s := describe.RolloutState(t); !strings.HasPrefix(s, state) {
		state += ", " + s
	} else {
		state = s
	}
	if t.CancelRequestedAt != nil && t.FinishedAt == nil {
		state += ", cancel requested by " + terminal.OneLine(t.CancelRequestedBy)
	}
	if eta := formatEstimate(remaining(b.state, b.usual, b.now)); eta != "" {
		state += ", " + eta
	}
	var rows []string
	for _, s := range []string{
		t.Type + " " + terminal.OneLine(t.Identifier),
		state,
		fmt.Sprintf("%s; at most %d of %d may fail", describe.Counts(t.Counts), t.Rollout.MaxFailures.Of(t.Counts.Total()), t.Counts.Total()),
	} {
		part := strings.Split(text.WrapSoft(s, width), "\n")
		if len(part) > maxLines {
			part = append(part[:maxLines-1], text.Snip(strings.Join(strings.Fields(strings.Join(part[maxLines-1:], " ")), " "), width, "…"))
		}
		for _, row := range part {
			rows = append(rows, strings.TrimRight(row, " "))
		}
	}
	return rows
}

func (b board) keys(width int) []string {
	if b.footer == "" {
		return nil
	}
	footer := b.footer
	if len(footer) > width {
		footer = strings.TrimSuffix(footer, quitHint)
	}
	return []string{text.Snip(footer, width, "…")}
}

// attention returns the endpoints that somebody should look at: those that have
// failed, the last one first, then those that a wave waits for, the slowest first.
func (b board) attention() []tasker.Response {
	var failed, open []tasker.Response
	for _, r := range b.state.Responses {
		switch {
		case r.Status == tasker.Succeeded, r.Status == tasker.Skipped, r.Status == tasker.Cancelled:
		case r.Status.Ended():
			failed = append(failed, r)
		case r.Wave <= b.state.Task.Rollout.Wave:
			open = append(open, r)
		}
	}
	slices.SortStableFunc(failed, func(a, b tasker.Response) int { return -compareTimes(a.FinishedAt, b.FinishedAt) })
	slices.SortStableFunc(open, func(a, b tasker.Response) int {
		return cmp.Or(b.Status.Rank()-a.Status.Rank(), compareTimes(a.StartedAt, b.StartedAt))
	})
	// If both do not fit, each gets half of the lines.
	half := maxTails / 2
	failed = failed[:min(len(failed), max(half, maxTails-len(open)))]
	return append(failed, open...)
}

// inShort is a response for a narrowWidth terminal.
func shortResponse(r tasker.Response) string {
	s := string(r.Status)
	if r.Progress != nil && !r.Status.Ended() {
		s += fmt.Sprintf(" %.0f%%", r.Progress.Percent)
	}
	return strings.TrimSpace(s + " " + terminal.OneLine(describe.Detail(r)))
}

func compareTimes(a, b *time.Time) int {
	if a == nil || b == nil {
		return 0
	}
	return a.Compare(*b)
}

// linesNeeded returns the number of lines of all endpoints that need attention.
func (b board) linesNeeded() int {
	n := 0
	for i, r := range b.attention() {
		if n++; i < maxTails && r.OutputBytes > 0 {
			n++
		}
	}
	return n
}

// endpoints returns as many responses that need attention as fit, each with its last line
// of output.
func (b board) endpoints(lines, width int) []string {
	list := b.attention()
	if lines < 1 || len(list) == 0 {
		return nil
	}
	var rows []string
	if lines > 3 {
		rows = append(rows, "")
	}
	names := 0
	for _, r := range list[:min(len(list), lines)] {
		names = max(names, len(r.Endpoint))
	}
	shown := 0
	for i, r := range list {
		last := b.tails[r.Endpoint]
		if i >= maxTails {
			last = ""
		}
		room := lines - len(rows) - min(len(list)-i-1, 1)
		if room < 1 {
			break
		} else if room < 2 {
			last = ""
		}
		row := fmt.Sprintf("  %-*s  %s", names, terminal.OneLine(r.Endpoint), progress(r))
		if width < narrowWidth {
			row = fmt.Sprintf("  %-*s  %s", names, terminal.OneLine(r.Endpoint), shortResponse(r))
		}
		row = text.Snip(row, width, "…")
		rows = append(rows, b.screen.paint(r.Status, row))
		if !strings.Contains(row, last) { // errors often end with it
			rows = append(rows, text.Snip("    │ "+last, width, "…"))
		}
		shown++
	}
	if more := len(list) - shown; more > 0 {
		rows = append(rows, fmt.Sprintf("  and %d more", more))
	}
	return rows
}
