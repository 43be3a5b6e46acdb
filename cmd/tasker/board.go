package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
)

const (
	// mostTails bounds the endpoints whose last lines are asked for and shown.
	mostTails = 8
	// narrow is a terminal with fewer columns than an endpoint's line has usually.
	narrow = 60
)

// board is one picture of a rollout, of at most one screen.
type board struct {
	state  client.State
	screen screen
	now    time.Time
	// usual is what an endpoint usually takes; zero is not known.
	usual time.Duration
	// tails are the last lines that endpoints printed.
	tails map[string]string
	// foot is the last line; empty is none.
	foot string
}

// rows are, from above: what it is, a line per wave, the endpoints that need
// attention, the keys.
func (b board) rows(width, height int) []string {
	width-- // a full line would wrap
	left := max(height-1, 4)
	head, foot := b.head(width, max(left/8, 1)), b.keys(width)
	left -= len(head) + len(foot)
	list, earlier := waves(b.state)
	want := len(list)
	if len(earlier) > 0 {
		want++
	}
	need := b.need()
	lines := max(min(want, left-min(need+1, left/2)), 1)
	rows := append(head, b.waves(list, earlier, lines, width)...)
	rows = append(rows, b.endpoints(left-lines, width)...)
	if room := height - 1 - len(foot); len(rows) > room {
		rows = rows[:max(room, 0)]
	} else if len(foot) > 0 && len(rows) < room {
		rows = append(rows, "")
	}
	return append(rows, foot...)
}

// head is what the task is, where it stands, and how many endpoints are where, in
// at most so many lines each.
func (b board) head(width, most int) []string {
	t := b.state.Task
	where := string(t.Status)
	if s := standing(t); !strings.HasPrefix(s, where) {
		where += ", " + s
	} else {
		where = s
	}
	if t.CancelRequestedAt != nil && t.FinishedAt == nil {
		where += ", cancel asked for by " + plain(t.CancelRequestedBy)
	}
	if eta := about(left(b.state, b.usual, b.now)); eta != "" {
		where += ", " + eta
	}
	var rows []string
	for _, s := range []string{
		t.Type + " " + plain(t.Identifier),
		where,
		fmt.Sprintf("%s; at most %d of %d may fail", counts(t.Counts), t.Rollout.MaxFailures.Of(t.Counts.Total()), t.Counts.Total()),
	} {
		part := strings.Split(text.WrapSoft(s, width), "\n")
		if len(part) > most {
			part = append(part[:most-1], text.Snip(strings.Join(strings.Fields(strings.Join(part[most-1:], " ")), " "), width, "…"))
		}
		for _, row := range part {
			rows = append(rows, strings.TrimRight(row, " "))
		}
	}
	return rows
}

func (b board) keys(width int) []string {
	if b.foot == "" {
		return nil
	}
	foot := b.foot
	if len(foot) > width {
		foot = strings.TrimSuffix(foot, goesOn)
	}
	return []string{text.Snip(foot, width, "…")}
}

// attention are the endpoints that somebody should look at: those that have
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
	// Where both do not fit, each has its half.
	half := mostTails / 2
	failed = failed[:min(len(failed), max(half, mostTails-len(open)))]
	return append(failed, open...)
}

// inShort is a response for a narrow terminal.
func inShort(r tasker.Response) string {
	s := string(r.Status)
	if r.Progress != nil && !r.Status.Ended() {
		s += fmt.Sprintf(" %.0f%%", r.Progress.Percent)
	}
	return strings.TrimSpace(s + " " + plain(what(r)))
}

func compareTimes(a, b *time.Time) int {
	if a == nil || b == nil {
		return 0
	}
	return a.Compare(*b)
}

// need is how many lines the endpoints would take.
func (b board) need() int {
	n := 0
	for i, r := range b.attention() {
		if n++; i < mostTails && r.OutputBytes > 0 {
			n++
		}
	}
	return n
}

// endpoints are as many of those that need attention as fit, each with its last
// line.
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
		if i >= mostTails {
			last = ""
		}
		room := lines - len(rows) - min(len(list)-i-1, 1)
		if room < 1 {
			break
		} else if room < 2 {
			last = ""
		}
		row := fmt.Sprintf("  %-*s  %s", names, plain(r.Endpoint), progress(r))
		if width < narrow {
			row = fmt.Sprintf("  %-*s  %s", names, plain(r.Endpoint), inShort(r))
		}
		row = text.Snip(row, width, "…")
		rows = append(rows, b.screen.paint(r.Status, row))
		if !strings.Contains(row, last) { // as the end of an error often has it
			rows = append(rows, text.Snip("    │ "+last, width, "…"))
		}
		shown++
	}
	if more := len(list) - shown; more > 0 {
		rows = append(rows, fmt.Sprintf("  and %d more", more))
	}
	return rows
}
