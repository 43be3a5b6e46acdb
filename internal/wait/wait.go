// Package wait polls for conditions in tests.
package wait

import (
	"testing"
	"time"
)

// timeout is reached only by a broken program, however slow the machine is.
const timeout = 2 * time.Minute

// For polls until ok returns true, and fails the test if it never does. The condition
// completes the sentence "waiting for …": "the task to finish".
func For(t testing.TB, condition string, ok func() bool) {
	t.Helper()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	expired := time.NewTimer(timeout)
	defer expired.Stop()
	for !ok() {
		select {
		case <-poll.C:
		case <-expired.C:
			t.Fatalf("timed out after %s waiting for %s", timeout, condition)
		}
	}
}
