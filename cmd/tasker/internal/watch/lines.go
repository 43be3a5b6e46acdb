package watch

import (
	"fmt"
	"io"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
	"github.com/MatthiasWiesner/tasker/cmd/tasker/internal/describe"
	"github.com/MatthiasWiesner/tasker/internal/terminal"
)

// lineView prints one line per significant change, for logs.
type lineView struct {
	out     io.Writer
	printed map[string]tasker.Response
	now     func() time.Time
	// open reports whether the time for further endpoints was printed.
	open bool
	// lost reports whether it was printed that the control plane cannot be reached.
	lost bool
	// wave and rolloutState are what was printed about a rollout.
	wave         int
	rolloutState string
}

// NewLines returns a view that prints lines to out, with the time of now.
func NewLines(out io.Writer, now func() time.Time) *lineView {
	return &lineView{out: out, printed: map[string]tasker.Response{}, now: now}
}

func (l *lineView) printf(format string, args ...any) {
	fmt.Fprintf(l.out, l.now().Format(time.TimeOnly)+"  "+format+"\n", args...)
}

func (l *lineView) Show(s client.State) {
	switch {
	case s.StreamErr != nil && !l.lost:
		l.printf("the control plane cannot be reached; trying again, while the task continues")
	case s.StreamErr == nil && l.lost:
		l.printf("the control plane can be reached again")
	}
	if l.lost = s.StreamErr != nil; l.lost {
		return
	}
	if s.Task.Rollout != nil {
		l.printNewWaves(*s.Task.Rollout)
	}
	for _, r := range s.Responses {
		before, ok := l.printed[r.Endpoint]
		if ok && !isWorthPrinting(before, r) || s.Task.Rollout != nil && isUntouched(r) {
			continue
		}
		l.printed[r.Endpoint] = r
		l.printf("%s  %s", terminal.OneLine(r.Endpoint), describe.Response(r))
	}
	if s.Task.Rollout != nil {
		l.printRolloutState(s.Task)
	}
	if open := describe.OpenUntil(s.Task); open != "" && !l.open {
		l.open = true
		l.printf("%s", open)
	}
}

// isUntouched reports whether the response belongs to a wave that has not begun.
func isUntouched(r tasker.Response) bool {
	return r.Status == tasker.Pending && r.Reason == "" || r.Status == tasker.Skipped
}

// printNewWaves prints the waves that have begun since the last state.
func (l *lineView) printNewWaves(r tasker.Rollout) {
	if r.State == tasker.RolloutPlanned {
		return // no wave begins
	}
	if r.Wave < l.wave { // a retry
		l.wave = 0
	}
	for ; l.wave < min(r.Wave, len(r.Waves)); l.wave++ {
		l.printf("wave %d of %d begins: %s", l.wave+1, len(r.Waves), describe.Plural(r.Waves[l.wave], "endpoint"))
	}
}

// printRolloutState prints a change of the rollout's state, except for the performing of a
// wave and a schedule without a time.
func (l *lineView) printRolloutState(t tasker.Task) {
	now := describe.RolloutState(t)
	if t.Rollout.State != tasker.RolloutRunning && now != string(tasker.RolloutScheduled) && now != l.rolloutState {
		l.printf("%s", now)
	}
	l.rolloutState = now
}

func (l *lineView) End(last client.State) error {
	if last.Task.ID != "" {
		l.printf("%s", describe.Headline(last.Task))
	}
	clear(l.printed)
	return nil
}

// isWorthPrinting reports whether a response changed by more than a few percent.
func isWorthPrinting(before, after tasker.Response) bool {
	const step = 10
	if before.Status != after.Status || before.Attempt != after.Attempt || before.Reason != after.Reason ||
		(before.SilentSince == nil) != (after.SilentSince == nil) {
		return true
	}
	if before.Progress == nil || after.Progress == nil {
		return before.Progress != after.Progress
	}
	return before.Progress.Message != after.Progress.Message || after.Progress.Percent-before.Progress.Percent >= step
}
