package watch

import (
	"bytes"
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

// running returns a task on so many endpoints, the last of which has failed.
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

func TestLive_fits_the_terminal(t *testing.T) {
	t.Parallel()
	const width, height = 60, 8
	var b bytes.Buffer
	l := NewLive(t.Context(), &b, Screen{Size: func() (int, int) { return width, height }}, &Controls{})
	l.Show(running(2))
	l.Show(running(40))
	if err := l.End(client.State{}); err != nil {
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

func TestLive_unreachable(t *testing.T) {
	t.Parallel()
	const width, height = 60, 8
	rows := func(s client.State) []string {
		if s.Task.Rollout != nil {
			return new(Controls).board(s, false).rows(width, height)
		}
		return (&liveView{state: s}).rows(width, height)
	}
	for name, s := range map[string]client.State{"task": running(40), "rollout": rolloutOf(40, 1, tasker.RolloutSpec{})} {
		if got := strings.Join(rows(s), "\n"); strings.Contains(got, unreachableNotice) {
			t.Errorf("%s: the control plane is there, but the picture is\n%s", name, got)
		}
		s.StreamErr = client.ErrUnreachable
		if got := rows(s); got[len(got)-1] != unreachableNotice || len(got) >= height {
			t.Errorf("%s, on a terminal of %d lines: %q", name, height, got)
		}
	}
}

// TestLive_last_output: an endpoint prints its last line when it fails, which ends the
// task.
func TestLive_last_output(t *testing.T) {
	t.Parallel()
	var ended atomic.Bool
	requested := make(chan struct{}, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !strings.HasSuffix(r.URL.Path, "/web-1/output"):
			http.NotFound(w, r)
		case ended.Load():
			fmt.Fprintln(w, "no such host")
		default:
			fmt.Fprintln(w, "starting")
			requested <- struct{}{}
		}
	}))
	defer server.Close()
	c, err := client.New(client.Options{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var b bytes.Buffer
	l := NewLive(t.Context(), &b, Screen{Size: func() (int, int) { return 80, 24 }}, &Controls{client: c})
	l.Show(rolloutOf(1, 1, tasker.RolloutSpec{}))
	<-requested
	ended.Store(true)
	s := rolloutOf(1, 1, tasker.RolloutSpec{})
	s.Responses[0].OutputBytes++
	s.Task.Status, s.Task.FinishedAt, s.Task.Rollout.State = tasker.TaskFailed, at(4000), tasker.RolloutStopped
	l.Show(s)
	if err := l.End(s); err != nil {
		t.Fatal(err)
	}
	frames := strings.Split(b.String(), "\x1b[J")
	if last := frames[len(frames)-2]; !strings.Contains(last, "│ no such host") {
		t.Errorf("the last picture is\n%s", last)
	}
}

// at returns a time so many milliseconds into the task.
func at(ms int) *time.Time {
	t := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(ms) * time.Millisecond)
	return &t
}
