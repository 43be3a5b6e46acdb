package watch

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/cmd/tasker/internal/describe"
	"github.com/MatthiasWiesner/tasker/internal/terminal"
)

// Screen is the terminal of a live view.
type Screen struct {
	// Size returns columns and rows.
	Size   func() (width, height int)
	Colour bool
}

// NewScreen returns the screen of a terminal. NO_COLOR in the environment turns colours
// off (https://no-color.org).
func NewScreen(f *os.File, env func(string) (string, bool)) Screen {
	noColour, _ := env("NO_COLOR")
	return Screen{
		Colour: noColour == "",
		Size: func() (int, int) {
			if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 && h > 0 { //nolint:gosec // a file descriptor is an int
				return w, h
			}
			return 80, 24
		},
	}
}

// paint colours a line by a status.
func (c Screen) paint(s tasker.ResponseStatus, row string) string {
	if !c.Colour || row == "" {
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

// attentionRank sorts failed responses first and succeeded ones last.
func attentionRank(r tasker.Response) int {
	switch {
	case r.Status == tasker.Succeeded:
		return 2
	case r.Status.Ended():
		return 0
	default:
		return 1
	}
}

// progress returns a response in one line, with its progress as a bar.
func progress(r tasker.Response) string {
	const cells = 20
	if r.Status.Ended() {
		return describe.Response(r)
	}
	s := fmt.Sprintf("%-9s", r.Status)
	if r.Progress != nil {
		full := min(max(int(r.Progress.Percent/100*cells), 0), cells)
		s += fmt.Sprintf("  %s%s %3.0f%%", strings.Repeat("━", full), strings.Repeat("─", cells-full), r.Progress.Percent)
	}
	if r.StartedAt != nil {
		s += fmt.Sprintf("  %s", max(time.Since(*r.StartedAt), 0).Round(time.Second))
	}
	if w := describe.Detail(r); w != "" {
		s += "  " + terminal.OneLine(w)
	}
	return s
}
