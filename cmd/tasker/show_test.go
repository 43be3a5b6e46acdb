package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
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
		{tasker.Response{Status: tasker.Running, Progress: &tasker.Progress{Percent: 50, Message: "unpacking"}, SilentSince: at(0)}, "running  50%  not connected since " + clock(*at(0))},
		{tasker.Response{Status: tasker.Pending, Reason: "offline since 03:04"}, "pending  offline since 03:04"},
		{tasker.Response{Status: tasker.Running, Progress: &tasker.Progress{Percent: 39.6, Message: "unpack"}}, "running  40%  unpack"},
		{tasker.Response{Status: tasker.Succeeded, StartedAt: at(0), FinishedAt: at(1204), Progress: &tasker.Progress{Percent: 100, Message: "done"}}, "succeeded  after 1.2s  done"},
		{tasker.Response{Status: tasker.Failed, Error: "exit code 3", StartedAt: at(0), FinishedAt: at(20), Attempt: 2}, "failed  attempt 2  after 20ms  exit code 3"},
		{tasker.Response{Status: tasker.Missing, Reason: "unroutable"}, "missing  unroutable"},
		{tasker.Response{Status: tasker.Succeeded, Late: true}, "succeeded  (late)"},
		{tasker.Response{Status: tasker.Failed, Error: "\x1b[2J\rboo\u202e"}, "failed  boo"},
	}
	for _, tt := range tests {
		if got := describe(tt.r); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestDelivery(t *testing.T) {
	t.Parallel()
	next := at(60_000).Local().Format(time.TimeOnly)
	for want, d := range map[string]tasker.Delivery{
		"finished    waiting for its 1st attempt":              {Status: tasker.DeliveryWaiting, NextAttemptAt: at(0)},
		"finished    waiting after 1 attempt; next at " + next: {Status: tasker.DeliveryWaiting, Attempts: 1, NextAttemptAt: at(60_000)},
		"finished    waiting after 2 attempts: no route; next at " + next: {
			Status: tasker.DeliveryWaiting, Attempts: 2, NextAttemptAt: at(60_000), LastError: "no\nroute",
		},
		"finished    delivered at the 3rd attempt":         {Status: tasker.DeliveryDelivered, Attempts: 3, DeliveredAt: at(0), LastError: "no route"},
		"finished    given up after 34 attempts: no route": {Status: tasker.DeliveryGivenUp, Attempts: 34, LastError: "no route"},
	} {
		d.Event, d.At = tasker.CallbackFinished, *at(0)
		if got := delivery(d); got != clock(d.At)+"  "+want {
			t.Errorf("got %q, want %q", got, want)
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
		s.Task.Counts.Transition("", r.Status)
		s.Responses = append(s.Responses, r)
	}
	return s
}

func TestLiveFitsTheTerminal(t *testing.T) {
	t.Parallel()
	const width, height = 60, 8
	var b bytes.Buffer
	l := newLive(t.Context(), &b, screen{size: func() (int, int) { return width, height }}, &desk{})
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

func TestLiveSaysThatNothingIsHeard(t *testing.T) {
	t.Parallel()
	const width, height = 60, 8
	rows := func(s client.State) []string {
		if s.Task.Rollout != nil {
			return new(desk).board(s, false).rows(width, height)
		}
		return (&live{state: s}).rows(width, height)
	}
	for name, s := range map[string]client.State{"task": running(40), "rollout": rolloutOf(40, 1, tasker.RolloutSpec{})} {
		if got := strings.Join(rows(s), "\n"); strings.Contains(got, unheard) {
			t.Errorf("%s: the control plane is there, but the picture is\n%s", name, got)
		}
		s.StreamErr = client.ErrUnreachable
		if got := rows(s); got[len(got)-1] != unheard || len(got) >= height {
			t.Errorf("%s, on a terminal of %d lines: %q", name, height, got)
		}
	}
}

// TestLiveEndsWithWhatWasPrintedLast: an endpoint prints its last line when it fails,
// which ends the task.
func TestLiveEndsWithWhatWasPrintedLast(t *testing.T) {
	t.Parallel()
	var ended atomic.Bool
	asked := make(chan struct{}, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !strings.HasSuffix(r.URL.Path, "/web-1/output"):
			http.NotFound(w, r)
		case ended.Load():
			fmt.Fprintln(w, "no such host")
		default:
			fmt.Fprintln(w, "starting")
			asked <- struct{}{}
		}
	}))
	defer server.Close()
	c, err := client.New(client.Options{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var b bytes.Buffer
	l := newLive(t.Context(), &b, screen{size: func() (int, int) { return 80, 24 }}, &desk{client: c})
	l.show(rolloutOf(1, 1, tasker.RolloutSpec{}))
	<-asked
	ended.Store(true)
	s := rolloutOf(1, 1, tasker.RolloutSpec{})
	s.Responses[0].OutputBytes++
	s.Task.Status, s.Task.FinishedAt, s.Task.Rollout.State = tasker.TaskFailed, at(4000), tasker.RolloutStopped
	l.show(s)
	if err := l.end(s); err != nil {
		t.Fatal(err)
	}
	frames := strings.Split(b.String(), "\x1b[J")
	if last := frames[len(frames)-2]; !strings.Contains(last, "│ no such host") {
		t.Errorf("the last picture is\n%s", last)
	}
}

func TestWhatAResultSays(t *testing.T) {
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
		if got := what(r); got != want {
			t.Errorf("%s: %q, want %q", result, got, want)
		}
		if r.Status, r.Error = tasker.Failed, "exit code 3"; what(r) != r.Error {
			t.Errorf("%s, failed: %q", result, what(r))
		}
	}
}

func TestSomeOfLongNamesAreFew(t *testing.T) {
	t.Parallel()
	var names []string
	for i := range 9 {
		names = append(names, fmt.Sprintf("web-%d.example.net", i))
	}
	if got, want := some(names), "web-0.example.net … web-8.example.net"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := some(names[:8]), strings.Join(names[:8], " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestATaskForManyNamesSome(t *testing.T) {
	t.Parallel()
	task := tasker.Task{Rollout: &tasker.Rollout{State: tasker.RolloutPlanned, Waves: []int{100}}}
	for i := range 100 {
		task.Endpoints = append(task.Endpoints, fmt.Sprintf("web-%d", i))
	}
	got := taskLines(task)
	for _, want := range []string{"endpoints   web-0 web-1 web-2 web-3 web-4 web-5 … web-99\n", "rollout     planned in 1 wave\n", "waves       100\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestLinesTellEachChangeOnce(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	l := newLines(&b, func() time.Time { return *at(0) })
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
	s.StreamErr = client.ErrUnreachable
	l.show(s)
	l.show(s)
	s.StreamErr = nil
	l.show(s)
	step(tasker.Succeeded, 100, "unpack")
	s.Task.Status = tasker.TaskSucceeded
	if err := l.end(s); err != nil {
		t.Fatal(err)
	}
	want := `03:04:05  web-1  sent
03:04:05  web-1  running
03:04:05  web-1  running  10%  unpack
03:04:05  web-1  running  25%  unpack
03:04:05  the control plane cannot be reached, and is asked again; the task goes on meanwhile
03:04:05  the control plane is reached again
03:04:05  web-1  succeeded  unpack
03:04:05  ping v2: succeeded
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}
