package store

import (
	"fmt"
	"strings"

	"github.com/MatthiasWiesner/tasker"
)

// Bounds, in bytes, of what an agent reports: of a name (instance, session) and of a
// text (reason, error, progress).
const (
	maxName = 64
	maxText = 64 << 10
)

// boundUpdate returns the update without values that are too large to be stored; the
// reason names a result that was dropped. One report must never keep a batch from
// being stored.
func boundUpdate(u tasker.Update) *tasker.Update {
	u.Reason, u.Error = truncate(u.Reason, maxText), truncate(u.Error, maxText)
	if u.Progress != nil {
		u.Progress = &tasker.Progress{Percent: u.Progress.Percent, Message: truncate(u.Progress.Message, maxText)}
	}
	if len(u.Result) > tasker.MaxResult {
		u.Reason = strings.TrimSpace(fmt.Sprintf("%s (a result of %d bytes was left out, %d are allowed)", u.Reason, len(u.Result), tasker.MaxResult))
		u.Result = nil
	}
	return &u
}

// truncate returns valid UTF-8 of at most about n bytes.
func truncate(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
