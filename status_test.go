package tasker_test

import (
	"testing"

	"github.com/MatthiasWiesner/tasker"
)

func TestTaskStatus(t *testing.T) {
	t.Parallel()
	type c = tasker.Counts
	tests := []struct {
		name   string
		counts tasker.Counts
		flags  tasker.Flags
		want   tasker.TaskStatus
	}{
		{"stored", c{"pending": 2}, tasker.Flags{}, "pending"},
		{"one sent", c{"pending": 1, "sent": 1}, tasker.Flags{}, "sent"},
		{"one received", c{"sent": 1, "received": 1}, tasker.Flags{}, "running"},
		{"one ended, one not sent", c{"pending": 1, "succeeded": 1}, tasker.Flags{}, "running"},
		{"not failed while one response is open", c{"running": 1, "failed": 1}, tasker.Flags{}, "running"},
		{"all succeeded", c{"succeeded": 2}, tasker.Flags{}, "succeeded"},
		{"all succeeded in spite of a cancel", c{"succeeded": 2}, tasker.Flags{Cancel: true}, "succeeded"},
		{"one failed", c{"succeeded": 1, "failed": 1}, tasker.Flags{}, "failed"},
		{"one timed out", c{"succeeded": 1, "timed_out": 1}, tasker.Flags{}, "failed"},
		{"one rejected", c{"rejected": 1}, tasker.Flags{}, "failed"},
		{"one interrupted", c{"interrupted": 1}, tasker.Flags{}, "failed"},
		{"some skipped", c{"succeeded": 1, "skipped": 1}, tasker.Flags{}, "failed"},
		{"cancelled", c{"cancelled": 1, "succeeded": 1}, tasker.Flags{Cancel: true}, "cancelled"},
		{"cancelled without a cancel request", c{"cancelled": 1}, tasker.Flags{}, "failed"},
		{"cancel in progress", c{"cancelled": 1, "running": 1}, tasker.Flags{Cancel: true}, "running"},
		{"missing wins over running", c{"missing": 1, "running": 1}, tasker.Flags{}, "incomplete"},
		{"missing wins over a cancel", c{"missing": 1, "cancelled": 1}, tasker.Flags{Cancel: true}, "incomplete"},
		{"paused", c{"succeeded": 1, "pending": 3}, tasker.Flags{Pause: true}, "paused"},
		{"ended wins over a pause", c{"succeeded": 1}, tasker.Flags{Pause: true}, "succeeded"},
		{"broadcast stored", c{}, tasker.Flags{Open: true}, "pending"},
		{"broadcast sent", c{}, tasker.Flags{Open: true, Sent: true}, "sent"},
		{"broadcast answered, still open", c{"succeeded": 2}, tasker.Flags{Open: true, Sent: true}, "running"},
		{"broadcast closed", c{"succeeded": 2}, tasker.Flags{Sent: true}, "succeeded"},
		{"no endpoint received the broadcast", c{}, tasker.Flags{Sent: true}, "incomplete"},
		{"broadcast cancelled before an endpoint received it", c{}, tasker.Flags{Cancel: true}, "cancelled"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.counts.TaskStatus(tt.flags); got != tt.want {
				t.Errorf("TaskStatus(%v, %+v) = %s, want %s", tt.counts, tt.flags, got, tt.want)
			}
		})
	}
}

// TestFailures counts one response in each status.
func TestFailures(t *testing.T) {
	t.Parallel()
	failed := 0
	for _, s := range tasker.ResponseStatuses() {
		failed += tasker.Counts{s: 1}.Failures()
	}
	// failed, timed out, cancelled, rejected, interrupted, missing
	if failed != 6 {
		t.Errorf("%d of the statuses are failures, want 6", failed)
	}
	c := tasker.Counts{tasker.Succeeded: 3, tasker.Missing: 2, tasker.Failed: 1, tasker.Running: 4, tasker.Skipped: 5}
	if c.Failures() != 3 {
		t.Errorf("%v: %d failures, want 3", c, c.Failures())
	}
}
