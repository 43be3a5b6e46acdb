package watch

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/cmd/tasker/internal/describe"
)

// waves returns at most so many lines: all waves, or those around the current one with a
// summary of the others.
func (b board) waves(list []wave, earlier tasker.Counts, lines, width int) []string {
	var before, after []wave
	if len(earlier) > 0 && lines > 1 {
		lines--
	} else {
		earlier = nil
	}
	if len(list) > lines {
		at := max(b.state.Task.Rollout.Wave-1, 0)
		room := max(lines-2, 1)
		first := min(max(at-room/2, 0), len(list)-room)
		before, list, after = list[:first], list[first:first+room], list[first+room:]
		if lines < 3 {
			before, after = nil, nil
		}
	}
	var rows []string
	if earlier != nil {
		rows = append(rows, "  done before: "+describe.Counts(earlier))
	}
	if len(before) > 0 {
		rows = append(rows, "  "+summarizeWaves(before, "before"))
	}
	for _, w := range list {
		rows = append(rows, b.wave(w, width))
	}
	if len(after) > 0 {
		rows = append(rows, "  "+summarizeWaves(after, "after"))
	}
	for i := range rows {
		rows[i] = text.Snip(rows[i], width, "…")
	}
	return rows
}

// summarizeWaves returns several waves in one line.
func summarizeWaves(list []wave, where string) string {
	all := tasker.Counts{}
	for _, w := range list {
		for s, n := range w.counts {
			all[s] += n
		}
	}
	return fmt.Sprintf("%s %s: %s", describe.Plural(len(list), "wave"), where, describe.Counts(all))
}

// wave returns one wave in one line.
func (b board) wave(w wave, width int) string {
	r := b.state.Task.Rollout
	label := strconv.Itoa(w.number)
	digits := len(strconv.Itoa(len(r.Waves)))
	if r.Canary.N > 0 {
		digits = max(digits, len("canary"))
		if w.number == 1 {
			label = "canary"
		}
	}
	cells := min(width/4, 30)
	if width < narrowWidth {
		cells = min(width/6, 8)
	}
	size := len(strconv.Itoa(slices.Max(r.Waves)))
	return fmt.Sprintf("  %-*s  %s  %*d/%-*d  %s", digits, label, b.bar(w, cells),
		size, w.counts.Ended(), size, w.size, b.waveState(w))
}

// bar returns the bar of a wave: succeeded, failed, started, pending.
func (b board) bar(w wave, cells int) string {
	started := 0
	if w.number <= b.state.Task.Rollout.Wave {
		started = w.size - w.counts.Ended()
	}
	var bar strings.Builder
	sum, drawn := 0, 0
	for _, part := range []struct {
		n      int
		status tasker.ResponseStatus
		symbol string
	}{
		{w.counts[tasker.Succeeded], tasker.Succeeded, "█"},
		{w.failed(), tasker.Failed, "×"},
		{started, tasker.Running, "▒"},
		{w.size, tasker.Pending, "░"},
	} {
		sum = min(sum+part.n, w.size)
		n := sum*cells/max(w.size, 1) - drawn
		if part.n > 0 && drawn < cells {
			n = max(n, 1) // a few of many are visible
		}
		n = max(n, 0)
		drawn += n
		bar.WriteString(b.screen.paint(part.status, strings.Repeat(part.symbol, n)))
	}
	return bar.String()
}

// waveState returns the state of a wave.
func (b board) waveState(w wave) string {
	r := b.state.Task.Rollout
	switch {
	case w.number <= r.Wave && w.ended():
		var problems []string
		if n := w.failed(); n > 0 {
			problems = append(problems, fmt.Sprintf("%d failed", n))
		}
		if n := w.counts[tasker.Cancelled]; n > 0 {
			problems = append(problems, fmt.Sprintf("%d cancelled", n))
		}
		return cmp.Or(strings.Join(problems, ", "), "done")
	case w.number <= r.Wave:
		open := tasker.Counts{}
		for s, n := range w.counts {
			if s != tasker.Succeeded {
				open[s] = n
			}
		}
		return describe.Counts(open)
	case w.ended():
		return describe.Counts(w.counts)
	case w.number > r.Wave+1:
		return "waiting"
	}
	switch r.State {
	case tasker.RolloutSoaking:
		return "soaking " + describe.Until(*r) + b.timeUntil(r.Until)
	case tasker.RolloutGating:
		return describe.GateState(*r) + b.timeUntil(r.Until)
	case tasker.RolloutScheduled:
		return describe.RolloutState(b.state.Task) + b.timeUntil(b.state.Task.NotBefore)
	case tasker.RolloutPaused:
		return "paused"
	}
	return "waiting"
}

// timeUntil returns the time until at, in parentheses.
func (b board) timeUntil(at *time.Time) string {
	if at == nil {
		return ""
	}
	return fmt.Sprintf(" (%v)", max(at.Sub(b.now), 0).Round(time.Second))
}
