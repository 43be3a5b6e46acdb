package ospackage

import (
	"fmt"
	"strings"
	"time"
)

// lockError is the error of a call that has waited too long for another package manager.
type lockError struct {
	holder string
	waited time.Duration
}

// Error names the holder of the lock.
func (e *lockError) Error() string {
	return fmt.Sprintf("another package manager is running, and did not end within %s: %s; run the task again after it has ended, or wait longer with lock_timeout", e.waited, e.holder)
}

// failureReasons is a writer for the output of a package manager, which keeps the lines
// that explain a failure.
type failureReasons struct {
	partial string
	reasons []string
	last    []string
}

const (
	// maxReasons bounds the lines that explain a failure; maxLast bounds the last lines,
	// which stand in if no line explains it.
	maxReasons = 10
	maxLast    = 3
)

// Write never fails.
func (f *failureReasons) Write(b []byte) (int, error) {
	lines := strings.Split(f.partial+string(b), "\n")
	f.partial = lines[len(lines)-1]
	if len(f.partial) > 4096 {
		f.partial = ""
	}
	continued := false // An indented line continues the reason before it.
	for _, line := range lines[:len(lines)-1] {
		if continued = isReason(line) || continued && strings.HasPrefix(line, " "); continued {
			f.reasons = append(f.reasons, strings.TrimSpace(line))
		}
		if line = strings.TrimSpace(line); line != "" {
			f.last = append(f.last, line)
		}
	}
	f.reasons = f.reasons[max(0, len(f.reasons)-maxReasons):]
	f.last = f.last[max(0, len(f.last)-maxLast):]
	return len(b), nil
}

// isReason reports whether a line of a package manager explains a failure.
func isReason(line string) bool {
	for _, prefix := range []string{"E: ", "dpkg: error", "Error: ", "Errors during", "  - Curl error", "error: "} {
		if strings.HasPrefix(line, prefix) {
			return true
		}
	}
	return strings.Contains(line, "scriptlet failed")
}

// String returns the reasons, or the last lines if there are none.
func (f *failureReasons) String() string {
	if len(f.reasons) > 0 {
		return strings.Join(f.reasons, "; ")
	}
	return strings.Join(f.last, "; ")
}
