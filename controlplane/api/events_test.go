package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/api"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
	"github.com/MatthiasWiesner/tasker/controlplane/watch"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// eventClient reads an open event stream.
type eventClient struct {
	t    *testing.T
	resp *http.Response
	scan *bufio.Scanner
}

type event struct {
	id int64
	api.TaskAndResponses
}

// openEvents opens an event stream, after the event last unless that is empty.
func (s *server) openEvents(t *testing.T, path, last string) *eventClient {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("GET %s: %d %s", path, resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	scan := bufio.NewScanner(resp.Body)
	scan.Buffer(nil, 16<<20)
	return &eventClient{t, resp, scan}
}

// next waits for an event. It returns false at the end of the stream.
func (e *eventClient) next() (event, bool) {
	e.t.Helper()
	var ev event
	var data string
	for e.scan.Scan() {
		line := e.scan.Text()
		switch field, value, _ := strings.Cut(line, ": "); {
		case field == "id":
			ev.id, _ = strconv.ParseInt(value, 10, 64)
		case field == "data":
			data = value
		case line == "" && data != "":
			if err := json.Unmarshal([]byte(data), &ev.TaskAndResponses); err != nil {
				e.t.Fatal(err)
			}
			if ev.id != ev.Task.Version {
				e.t.Errorf("event id is %d, version %d", ev.id, ev.Task.Version)
			}
			return ev, true
		}
	}
	if err := e.scan.Err(); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		e.t.Fatal(err)
	}
	return event{}, false
}

// mustNext waits for an event and fails the test at the end of the stream.
func (e *eventClient) mustNext() event {
	e.t.Helper()
	ev, ok := e.next()
	if !ok {
		e.t.Fatal("the stream has ended")
	}
	return ev
}

func TestEvents(t *testing.T) {
	t.Parallel()
	s := serve(t)
	apply(t, s.store, hello("a"), hello("b"))
	task := s.create(t, "/ping", `{"identifier":"1","endpoints":["a","b"]}`)
	stream := s.openEvents(t, "/ping/1/events", "")

	first := stream.mustNext()
	if first.Task.ID != task.ID || len(first.Responses) != 2 {
		t.Fatalf("the first event is not complete: %+v", first)
	}
	apply(t, s.store, update(task, "a", 1, tasker.Running))
	second := stream.mustNext()
	if second.Task.Status != tasker.TaskRunning || len(second.Responses) != 1 || second.Responses[0].Endpoint != "a" || second.id <= first.id {
		t.Errorf("the second event is not the change: %+v", second)
	}
	apply(t, s.store, update(task, "b", 1, tasker.Succeeded))
	third := stream.mustNext()
	if len(third.Responses) != 1 || third.Responses[0].Endpoint != "b" {
		t.Errorf("the third event is not the change: %+v", third)
	}

	resumed := s.openEvents(t, "/ping/"+task.ID+"/events", strconv.FormatInt(second.id, 10))
	if got := resumed.mustNext(); got.id != third.id || len(got.Responses) != 1 || got.Responses[0].Endpoint != "b" {
		t.Errorf("resumed with %+v", got)
	}
	fromUnknown := s.openEvents(t, "/ping/1/events", "1000000")
	if got := fromUnknown.mustNext(); len(got.Responses) != 2 {
		t.Errorf("an id of another database resumed with %+v", got)
	}

	apply(t, s.store, update(task, "a", 2, tasker.Failed))
	for _, e := range []*eventClient{stream, resumed, fromUnknown} {
		last := e.mustNext()
		if last.Task.Status != tasker.TaskFailed || last.Task.FinishedAt == nil || len(last.Responses) != 1 {
			t.Errorf("the last event: %+v", last)
		}
		if _, more := e.next(); more {
			t.Error("the stream continues after the end")
		}
	}

	if got := s.openEvents(t, "/ping/1/events", "").mustNext(); len(got.Responses) != 2 || got.Task.FinishedAt == nil {
		t.Errorf("the stream of a finished task: %+v", got)
	}
	now := decode[api.TaskAndResponses](t, s.do(t, http.MethodGet, "/ping/1", ""), http.StatusOK)
	ended := s.do(t, http.MethodGet, "/ping/1/events", "", "Last-Event-ID", strconv.FormatInt(now.Task.Version, 10))
	if ended.status != http.StatusNoContent {
		t.Errorf("resumed after the end: %d", ended.status)
	}
}

func TestEventsOfOtherControlPlane(t *testing.T) {
	t.Parallel()
	s := serve(t)
	other := serveStore(t, s.store, watch.NewFanout()) // which receives no commits
	apply(t, s.store, hello("a"))
	task := s.create(t, "/ping", `{"identifier":"1","endpoints":["a"]}`)
	stream := other.openEvents(t, "/ping/1/events", "")
	stream.mustNext()
	apply(t, s.store, update(task, "a", 1, tasker.Succeeded))
	if got := stream.mustNext(); got.Task.Status != tasker.TaskSucceeded {
		t.Errorf("got %+v", got)
	}
}

func TestEventsAreBatched(t *testing.T) {
	t.Parallel()
	s := serve(t)
	apply(t, s.store, hello("a"))
	task := s.create(t, "/ping", `{"identifier":"1","endpoints":["a"]}`)
	stream := s.openEvents(t, "/ping/1/events", "")
	stream.mustNext()
	const changes = 200
	began := time.Now()
	for i := range int64(changes) {
		r := update(task, "a", i+1, tasker.Running)
		r.Update.Progress = &tasker.Progress{Percent: float64(i) / 2}
		apply(t, s.store, r)
	}
	apply(t, s.store, update(task, "a", changes+1, tasker.Succeeded))
	n := 0
	last := int64(0)
	for {
		ev, ok := stream.next()
		if !ok {
			break
		}
		n++
		last = ev.id
	}
	if took := time.Since(began); n == 0 || n > 1+int(took/(100*time.Millisecond)) {
		t.Errorf("%d events for %d changes in %s, want at most ten a second", n, changes, took)
	}
	if now := decode[api.TaskAndResponses](t, s.do(t, http.MethodGet, "/ping/1", ""), http.StatusOK); last != now.Task.Version {
		t.Errorf("the last event was of version %d, the task has %d", last, now.Task.Version)
	}
}

func TestEventStreamsEnd(t *testing.T) {
	t.Parallel()
	fanout := watch.NewFanout()
	o := storetest.SQLite(t)
	o.Types = []tasker.TaskType{{Name: "ping", Handler: "ping"}}
	s := serveStore(t, storetest.Open(t, o), fanout)
	s.create(t, "/ping", `{"identifier":"1","endpoints":["a"]}`)

	closed := s.openEvents(t, "/ping/1/events", "")
	closed.mustNext()
	closed.resp.Body.Close()
	wait.For(t, "the closed stream to be unsubscribed", func() bool { return fanout.Watchers() == 0 })

	drained := s.openEvents(t, "/ping/1/events", "")
	drained.mustNext()
	s.api.Drain()
	if _, more := drained.next(); more {
		t.Error("the stream continues after Drain")
	}
	wait.For(t, "the drained stream to be unsubscribed", func() bool { return fanout.Watchers() == 0 })

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.Config.Shutdown(ctx); err != nil {
		t.Errorf("shut down: %v", err)
	}
}

func TestEventsHead(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.create(t, "/ping", `{"identifier":"1","endpoints":["a"]}`)
	if a := s.do(t, http.MethodHead, "/ping/1/events", ""); a.status != http.StatusOK || len(a.body) != 0 {
		t.Errorf("got %d %q", a.status, a.body)
	}
}

// An event reports that an endpoint became silent, and another that it reported again.
func TestEventsReportSilence(t *testing.T) {
	t.Parallel()
	s := serve(t)
	apply(t, s.store, hello("a"), hello("b"))
	task := s.create(t, "/ping", `{"identifier":"1","endpoints":["a","b"]}`)
	apply(t, s.store, update(task, "a", 1, tasker.Running), update(task, "b", 1, tasker.Running))
	stream := s.openEvents(t, "/ping/1/events", "")
	first := stream.mustNext()
	check := func(e event, silent bool, endpoints ...string) {
		t.Helper()
		if e.id != first.id || len(e.Responses) != len(endpoints) {
			t.Fatalf("got %+v, want the responses of %v", e, endpoints)
		}
		for i, r := range e.Responses {
			if r.Endpoint != endpoints[i] || r.Status != tasker.Running || (r.SilentSince != nil) != silent {
				t.Errorf("got %+v, want %s, silent: %t", r, endpoints[i], silent)
			}
		}
	}
	check(first, false, "a", "b")
	bye := hello("a")
	bye.Hello, bye.Goodbye = nil, &tasker.Goodbye{}
	apply(t, s.store, bye)
	check(stream.mustNext(), true, "a")
	if a := decode[api.TaskAndResponses](t, s.do(t, http.MethodGet, "/ping/1", ""), http.StatusOK); a.Responses[0].SilentSince == nil || a.Responses[1].SilentSince != nil {
		t.Errorf("read: %+v", a.Responses)
	}
	// A resumed stream repeats the silent endpoints.
	check(s.openEvents(t, "/ping/1/events", strconv.FormatInt(first.id, 10)).mustNext(), true, "a")
	back := hello("a")
	back.Hello.Unfinished = []tasker.AssignmentRef{{TaskID: task.ID, Attempt: 1}}
	apply(t, s.store, back)
	check(stream.mustNext(), false, "a")
}
