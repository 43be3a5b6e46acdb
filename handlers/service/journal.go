package service

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker/handlers/systemd"
)

const (
	// maxJournalLines is the number of journal lines in a result.
	maxJournalLines = 20
	// maxJournalLine is the length in bytes to which each line is cut.
	maxJournalLine = 500
)

// journal returns the last lines of a unit's journal. If the journal cannot be read, it
// returns the reason instead: the lines only explain another error.
func journal(ctx context.Context, unit string, since time.Time) []string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), systemd.Timeout)
	defer cancel()
	// The latest lines are not in the journal until it is synced.
	_ = exec.CommandContext(ctx, "journalctl", "--sync").Run()
	cmd := exec.CommandContext(ctx, "journalctl", "--quiet", "--no-pager", "--output=short-iso", "--no-hostname", //nolint:gosec // names of units only
		fmt.Sprintf("--lines=%d", maxJournalLines), fmt.Sprintf("--since=@%d.%06d", since.Unix(), since.Nanosecond()/1000), "--unit="+unit)
	out, err := cmd.Output()
	if err != nil {
		return []string{"(the journal cannot be read: " + err.Error() + ")"}
	}
	lines := strings.FieldsFunc(strings.ToValidUTF8(string(out), "�"), func(r rune) bool { return r == '\n' })
	for i, line := range lines {
		if len(line) > maxJournalLine {
			lines[i] = strings.ToValidUTF8(line[:maxJournalLine], "") + "…"
		}
	}
	return lines
}
