package describe

import (
	"encoding/json"
	"testing"

	"github.com/MatthiasWiesner/tasker"
)

func TestResponse(t *testing.T) {
	t.Parallel()
	tests := []struct {
		r    tasker.Response
		want string
	}{
		{tasker.Response{Status: tasker.Running, Progress: &tasker.Progress{Percent: 50, Message: "unpacking"}, SilentSince: at(0)}, "running  50%  not connected since " + Time(*at(0))},
		{tasker.Response{Status: tasker.Pending, Reason: "offline since 03:04"}, "pending  offline since 03:04"},
		{tasker.Response{Status: tasker.Running, Progress: &tasker.Progress{Percent: 39.6, Message: "unpack"}}, "running  40%  unpack"},
		{tasker.Response{Status: tasker.Succeeded, StartedAt: at(0), FinishedAt: at(1204), Progress: &tasker.Progress{Percent: 100, Message: "done"}}, "succeeded  after 1.2s  done"},
		{tasker.Response{Status: tasker.Failed, Error: "exit code 3", StartedAt: at(0), FinishedAt: at(20), Attempt: 2}, "failed  attempt 2  after 20ms  exit code 3"},
		{tasker.Response{Status: tasker.Missing, Reason: "unroutable"}, "missing  unroutable"},
		{tasker.Response{Status: tasker.Succeeded, Late: true}, "succeeded  (late)"},
		{tasker.Response{Status: tasker.Failed, Error: "\x1b[2J\rboo\u202e"}, "failed  boo"},
	}
	for _, tt := range tests {
		if got := Response(tt.r); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestDetail_result(t *testing.T) {
	t.Parallel()
	for result, want := range map[string]string{
		``:                   "99 is current",
		`"a script's own"`:   "99 is current",
		`{"note": 7}`:        "99 is current",
		`{"changed": false}`: "99 is current",
		`{"changed": false, "note": "was undone already"}`:                                 "was undone already",
		`{"changed": true, "plan": true, "would": ["run bin/up", "switch from 98 to 99"]}`: "would run bin/up; switch from 98 to 99",
		`{"changed": true, "plan": true}`:                                                  "would change something; -o json shows what",
		`{"changed": false, "plan": true}`:                                                 "would change nothing",
		`{"plan": true, "note": "it is a secret"}`:                                         "it is a secret",
	} {
		r := tasker.Response{Status: tasker.Succeeded, Result: json.RawMessage(result), Progress: &tasker.Progress{Message: "99 is current"}}
		if got := Detail(r); got != want {
			t.Errorf("%s: %q, want %q", result, got, want)
		}
		if r.Status, r.Error = tasker.Failed, "exit code 3"; Detail(r) != r.Error {
			t.Errorf("%s, failed: %q", result, Detail(r))
		}
	}
}
