package describe

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/terminal"
)

// Response returns a response in one line, without its endpoint.
func Response(r tasker.Response) string {
	parts := []string{string(r.Status)}
	if r.Attempt > 1 {
		parts = append(parts, fmt.Sprintf("attempt %d", r.Attempt))
	}
	if r.Progress != nil && !r.Status.Ended() {
		parts = append(parts, fmt.Sprintf("%.0f%%", r.Progress.Percent))
	}
	if r.Status.Ended() {
		if d := RunTime(r); d != "" {
			parts = append(parts, "after "+d)
		}
	}
	if w := Detail(r); w != "" {
		parts = append(parts, terminal.OneLine(w))
	}
	return strings.Join(parts, "  ")
}

// Detail returns the reason, error, note or progress message of a response.
func Detail(r tasker.Response) string {
	var parts []string
	if at := r.SilentSince; at != nil {
		parts = append(parts, "not connected since "+Time(*at))
	}
	for _, s := range []string{r.Reason, r.Error} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if s := resultNote(r.Result); len(parts) == 0 && s != "" {
		parts = append(parts, s)
	}
	if len(parts) == 0 && r.Progress != nil {
		parts = append(parts, r.Progress.Message)
	}
	if r.Late {
		parts = append(parts, "(late)")
	}
	return strings.Join(parts, ": ")
}

// resultNote returns the note of a result, or the changes that a dry run reports.
func resultNote(result json.RawMessage) string {
	var r struct {
		Changed bool
		Plan    bool
		Note    string
		Would   []string
	}
	switch err := json.Unmarshal(result, &r); {
	case err != nil: // a script may return any JSON
		return ""
	case r.Note != "" || !r.Plan:
		return r.Note
	case len(r.Would) > 0:
		return "would " + strings.Join(r.Would, "; ")
	case r.Changed:
		return "would change something; -o json shows what"
	}
	return "would change nothing"
}

// RunTime returns how long the handler ran; empty if it has not ended.
func RunTime(r tasker.Response) string {
	if r.StartedAt == nil || r.FinishedAt == nil {
		return ""
	}
	switch d := r.FinishedAt.Sub(*r.StartedAt); {
	case d < time.Millisecond:
		return "<1ms"
	case d < 100*time.Millisecond:
		return d.Round(time.Millisecond).String()
	default:
		return d.Round(10 * time.Millisecond).String()
	}
}
