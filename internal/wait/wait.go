// Package wait waits in tests for what must come.
package wait

import (
	"testing"
	"time"
)

// patience is a time that only a broken program needs, however slow the machine is.
const patience = 2 * time.Minute

// For waits until ok says true, and fails the test if it never does. What is waited
// for is said so that it follows "waiting for": "the task to finish".
func For(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(patience)
	defer late.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-late.C:
			t.Fatalf("waited %s in vain for %s", patience, what)
		}
	}
}
