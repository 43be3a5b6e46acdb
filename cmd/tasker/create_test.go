package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
)

// TestRolloutSpec checks that the short flags set the same rollout as its JSON.
func TestRolloutSpec(t *testing.T) {
	t.Parallel()
	tests := []struct {
		flags createFlags
		want  string
	}{
		{createFlags{canary: "1"}, `{"canary": 1}`},
		{createFlags{batch: "25%"}, `{"batch": "25%"}`},
		{createFlags{batch: "1, 10%,50%", maxFailures: "5%"}, `{"batch": [1, "10%", "50%"], "max_failures": "5%"}`},
		{
			createFlags{canary: "5%", pauseAfterCanary: true, pauseBetween: "1m30s", onFailure: "pause"},
			`{"canary": "5%", "pause_after_canary": true, "pause_between": 90, "on_failure": "pause"}`,
		},
	}
	for _, tt := range tests {
		spec, err := tt.flags.rolloutSpec()
		if err != nil {
			t.Fatal(err)
		}
		var got, want tasker.RolloutSpec
		if err := json.Unmarshal(spec, &got); err != nil {
			t.Fatalf("%s: %v", spec, err)
		}
		if err := json.Unmarshal([]byte(tt.want), &want); err != nil {
			t.Fatal(err)
		}
		want.SetDefaults()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%+v:\n%s", tt.flags, diff)
		}
	}
}

func TestNotBefore(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]time.Time{
		"2026-01-02T03:04:05Z": *at(0), "2026-01-02T04:04:05+01:00": *at(0), "2h": at(0).Add(2 * time.Hour), "90": at(0).Add(90 * time.Second),
	} {
		if got, err := notBefore(s, *at(0)); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	if got, err := notBefore("tomorrow", *at(0)); err == nil {
		t.Errorf("tomorrow is %v", got)
	}
}

// at returns a time so many milliseconds into the task.
func at(ms int) *time.Time {
	t := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(ms) * time.Millisecond)
	return &t
}
