package main

import (
	"testing"

	"github.com/MatthiasWiesner/tasker"
)

func TestOutcome(t *testing.T) {
	t.Parallel()
	want := map[tasker.TaskStatus]int{
		tasker.TaskFailed: codeFailed, tasker.TaskIncomplete: codeIncomplete, tasker.TaskCancelled: codeCancelled,
	}
	for _, s := range tasker.TaskStatuses() {
		code := codeSucceeded
		if err, ok := outcome(tasker.Task{Status: s}).(*exitError); ok { //nolint:errorlint // exactly this one
			code = err.code
		}
		if code != want[s] {
			t.Errorf("%s: exit code %d, want %d", s, code, want[s])
		}
	}
}
