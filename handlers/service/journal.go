package service

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// How much of a journal is shown.
const (
	journalLines = 20
	journalLine  = 500
)

// journal returns the last lines of a unit's journal. Where there is none, it says
// why in their place: it only explains another error.
func journal(ctx context.Context, unit string, since time.Time) []string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	// What was printed last is not in the journal yet.
	_ = exec.CommandContext(ctx, "journalctl", "--sync").Run()
	cmd := exec.CommandContext(ctx, "journalctl", "--quiet", "--no-pager", "--output=short-iso", "--no-hostname", //nolint:gosec // names of units only
		fmt.Sprintf("--lines=%d", journalLines), fmt.Sprintf("--since=@%d.%06d", since.Unix(), since.Nanosecond()/1000), "--unit="+unit)
	out, err := cmd.Output()
	if err != nil {
		return []string{"(the journal cannot be read: " + err.Error() + ")"}
	}
	lines := strings.FieldsFunc(strings.ToValidUTF8(string(out), "�"), func(r rune) bool { return r == '\n' })
	for i, line := range lines {
		if len(line) > journalLine {
			lines[i] = strings.ToValidUTF8(line[:journalLine], "") + "…"
		}
	}
	return lines
}
