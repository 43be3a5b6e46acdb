package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/client"
)

// at is a time so many milliseconds into the task.
func at(ms int) *time.Time {
	t := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(ms) * time.Millisecond)
	return &t
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	tests := []struct {
		r    tasker.Response
		want string
	}{
		{tasker.Response{Status: tasker.Pending, Reason: "offline since 03:04"}, "pending  offline since 03:04"},
		{tasker.Response{Status: tasker.Running, Progress: &tasker.Progress{Percent: 39.6, Message: "unpack"}}, "running  40%  unpack"},
		{tasker.Response{Status: tasker.Succeeded, StartedAt: at(0), FinishedAt: at(1204), Progress: &tasker.Progress{Percent: 100, Message: "done"}}, "succeeded  after 1.2s  done"},
		{tasker.Response{Status: tasker.Failed, Error: "exit code 3", StartedAt: at(0), FinishedAt: at(20), Attempt: 2}, "failed  attempt 2  after 20ms  exit code 3"},
		{tasker.Response{Status: tasker.Missing, Reason: "unroutable"}, "missing  unroutable"},
		{tasker.Response{Status: tasker.Succeeded, Late: true}, "succeeded  (late)"},
		{tasker.Response{Status: tasker.Failed, Error: "\x1b[2J\rboo\u202e"}, "failed   [2J boo "},
	}
	for _, tt := range tests {
		if got := describe(tt.r); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

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

// running is a task on so many endpoints, the first of which has failed.
func running(endpoints int) client.State {
	s := client.State{Task: tasker.Task{ID: "t", Type: "update-app", Identifier: "v2", Status: tasker.TaskRunning, Counts: tasker.Counts{}}}
	for i := range endpoints {
		r := tasker.Response{
			Endpoint: fmt.Sprintf("web-%d", i+1), Status: tasker.Running,
			Progress: &tasker.Progress{Percent: 50, Message: "unpack " + strings.Repeat("x", 100)},
		}
		if i == endpoints-1 {
			r = tasker.Response{Endpoint: r.Endpoint, Status: tasker.Failed, Error: "exit code 3"}
		}
		s.Task.Counts.Move("", r.Status)
		s.Responses = append(s.Responses, r)
	}
	return s
}

func TestLiveFitsTheTerminal(t *testing.T) {
	t.Parallel()
	const width, height = 60, 8
	var b bytes.Buffer
	l := newLive(&b, screen{size: func() (int, int) { return width, height }})
	l.show(running(2))
	l.show(running(40))
	if err := l.end(client.State{}); err != nil {
		t.Fatal(err)
	}
	frames := strings.Split(b.String(), "\x1b[J")
	first, second := strings.Split(frames[0], "\n"), strings.Split(frames[1], "\n")
	if want := []string{
		"\rupdate-app v2: running (1 running, 1 failed)\x1b[K",
		"\r  web-1  running    ━━━━━━━━━━──────────  50%  unpack xxxx…\x1b[K",
		"\r  web-2  failed  exit code 3\x1b[K",
		"",
	}; !cmp.Equal(want, first) {
		t.Error(cmp.Diff(want, first))
	}
	if len(second) > height {
		t.Errorf("%d lines on a terminal of %d:\n%s", len(second), height, frames[1])
	}
	if !strings.HasPrefix(second[0], "\x1b[3A\r") {
		t.Errorf("the three lines before are not drawn over: %q", second[0])
	}
	if !strings.Contains(second[1], "web-40") || !strings.Contains(frames[1], "and 35 more") {
		t.Errorf("the failed one is not first, or the rest not counted:\n%s", frames[1])
	}
}

func TestLinesTellEachChangeOnce(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	l := &lines{out: &b, told: map[string]tasker.Response{}, now: func() time.Time { return *at(0) }}
	s := client.State{Task: tasker.Task{ID: "t", Type: "ping", Identifier: "v2", Status: tasker.TaskRunning}}
	step := func(status tasker.ResponseStatus, percent float64, message string) {
		r := tasker.Response{Endpoint: "web-1", Status: status}
		if message != "" {
			r.Progress = &tasker.Progress{Percent: percent, Message: message}
		}
		s.Responses = []tasker.Response{r}
		l.show(s)
	}
	step(tasker.Sent, 0, "")
	step(tasker.Running, 0, "")
	step(tasker.Running, 10, "unpack")
	step(tasker.Running, 12, "unpack")
	step(tasker.Running, 25, "unpack")
	step(tasker.Succeeded, 100, "unpack")
	s.Task.Status = tasker.TaskSucceeded
	if err := l.end(s); err != nil {
		t.Fatal(err)
	}
	want := `03:04:05  web-1  sent
03:04:05  web-1  running
03:04:05  web-1  running  10%  unpack
03:04:05  web-1  running  25%  unpack
03:04:05  web-1  succeeded  unpack
03:04:05  ping v2: succeeded
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}
