package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/api"
)

func TestCreate(t *testing.T) {
	t.Parallel()
	s := serve(t)
	a := s.do(t, http.MethodPost, "/ping", seedBody)
	task := decode[tasker.Task](t, a, http.StatusCreated)
	if want := "ping/" + task.ID; a.header.Get("Location") != want {
		t.Errorf("Location is %q, want %q", a.header.Get("Location"), want)
	}
	if task.Identifier != "e7bd91d0-16ad-11e2-892e-0800200c9a66" || task.Type != "ping" || string(task.Payload) != `{"foo":"bar"}` ||
		!cmp.Equal(task.Endpoints, []string{"loadbalancer-1", "loadbalancer-2"}) || task.Status != tasker.TaskPending ||
		!cmp.Equal(task.Counts, tasker.Counts{tasker.Pending: 2}) || task.ReceiveTimeout.D() != 30*time.Second {
		t.Errorf("created: %s", a.body)
	}
	got := decode[api.TaskAndResponses](t, s.do(t, http.MethodGet, "/"+a.header.Get("Location"), ""), http.StatusOK)
	if len(got.Responses) != 2 || got.Responses[0].Endpoint != "loadbalancer-1" || got.Responses[1].Status != tasker.Pending {
		t.Errorf("responses: %+v", got.Responses)
	}

	repeated := s.do(t, http.MethodPost, "/ping", seedBody)
	if task2 := decode[tasker.Task](t, repeated, http.StatusOK); task2.ID != task.ID || repeated.header.Get("Location") != a.header.Get("Location") {
		t.Errorf("the repeated request: %s", repeated.body)
	}
	other := s.do(t, http.MethodPost, "/ping", strings.Replace(seedBody, "bar", "baz", 1)).problem(t, http.StatusConflict)
	if len(other.Errors) != 1 || other.Errors[0].Location != "body.identifier" {
		t.Errorf("a different request with the same identifier: %+v", other)
	}
	// Identifiers are unique within a type only.
	if task2 := s.create(t, "/command", `{"identifier":"e7bd91d0-16ad-11e2-892e-0800200c9a66","payload":{"argv":["x"]}}`); task2.ID == task.ID {
		t.Error("two types share one task")
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	s := serve(t)
	tests := []struct {
		name, path, body string
		payload          string
		broadcast        bool
		receive, timeout time.Duration
	}{
		{"payload", "/ping", `{"identifier":"1","endpoints":["a"]}`, `{}`, false, 30 * time.Second, 0},
		{"endpoints", "/ping", `{"identifier":"2","payload":[1, 2.50]}`, `[1,2.50]`, true, 30 * time.Second, 0},
		{"payload and endpoints", "/ping", `{"identifier":"3"}`, `{}`, true, 30 * time.Second, 0},
		{"null payload", "/ping", `{"identifier":"4","payload":null}`, `null`, true, 30 * time.Second, 0},
		{"timeout of the type", "/command", `{"identifier":"5","payload":{"argv":["x"]}}`, `{"argv":["x"]}`, true, 30 * time.Second, 10 * time.Minute},
		{"no defaults", "/command", `{"identifier":"6","payload":{"argv":["x"]},"receive_timeout":"1m30s","timeout":90.5}`, `{"argv":["x"]}`, true, 90 * time.Second, 90500 * time.Millisecond},
		{"timeout of a type without one", "/ping", `{"identifier":"7","timeout":"48h"}`, `{}`, true, 30 * time.Second, 48 * time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			task := s.create(t, tt.path, tt.body)
			if string(task.Payload) != tt.payload || task.Broadcast() != tt.broadcast || task.ReceiveTimeout.D() != tt.receive || task.Timeout.D() != tt.timeout {
				t.Errorf("created %+v", task)
			}
		})
	}
}

func TestRepeatedRequest(t *testing.T) {
	t.Parallel()
	s := serve(t)
	tests := []struct {
		name, first, second string
		status              int
	}{
		{"white space and order of keys", `{"identifier":"ID","payload":{"a":1,"b":[1,2]}}`, `{ "payload": {"b":[1, 2],"a":1}, "identifier":"ID" }`, 200},
		{"omitted payload", `{"identifier":"ID"}`, `{"identifier":"ID","payload":{}}`, 200},
		{"null payload is not omitted", `{"identifier":"ID"}`, `{"identifier":"ID","payload":null}`, 409},
		{"order of endpoints", `{"identifier":"ID","endpoints":["a","b"]}`, `{"identifier":"ID","endpoints":["b","a"]}`, 200},
		{"other endpoints", `{"identifier":"ID","endpoints":["a","b"]}`, `{"identifier":"ID","endpoints":["a"]}`, 409},
		{"endpoints or every endpoint", `{"identifier":"ID","endpoints":["a"]}`, `{"identifier":"ID"}`, 409},
		{"explicit default", `{"identifier":"ID"}`, `{"identifier":"ID","receive_timeout":30}`, 200},
		{"other notation of a duration", `{"identifier":"ID","timeout":"1m"}`, `{"identifier":"ID","timeout":60}`, 200},
		{"other receive timeout", `{"identifier":"ID"}`, `{"identifier":"ID","receive_timeout":31}`, 409},
		{"other timeout", `{"identifier":"ID"}`, `{"identifier":"ID","timeout":31}`, 409},
		{"numbers beyond a float64", `{"identifier":"ID","payload":12345678901234567890}`, `{"identifier":"ID","payload":12345678901234567891}`, 409},
		{"other selector", `{"identifier":"ID","endpoints":["a"],"labels":"x=1"}`, `{"identifier":"ID","endpoints":["a"],"labels":"x=2"}`, 409},
		{"dry run or not", `{"identifier":"ID","dry_run":true}`, `{"identifier":"ID"}`, 409},
		{"explicit dry_run false", `{"identifier":"ID","dry_run":false}`, `{"identifier":"ID"}`, 200},
		{"other not_before", `{"identifier":"ID","not_before":"2026-01-02T03:04:05Z"}`, `{"identifier":"ID","not_before":"2026-01-02T03:04:06Z"}`, 409},
		{"other notation of a time", `{"identifier":"ID","not_before":"2026-01-02T03:04:05Z"}`, `{"identifier":"ID","not_before":"2026-01-02T04:04:05+01:00"}`, 200},
		{"rollout or none", `{"identifier":"ID","endpoints":["a"],"rollout":{}}`, `{"identifier":"ID","endpoints":["a"]}`, 409},
		{"other batch", `{"identifier":"ID","endpoints":["a"],"rollout":{"batch":1}}`, `{"identifier":"ID","endpoints":["a"],"rollout":{"batch":2}}`, 409},
		{"explicit defaults of a rollout", `{"identifier":"ID","endpoints":["a"],"rollout":{}}`, `{"identifier":"ID","endpoints":["a"],"rollout":{"batch":["100%"],"order":"listed","canary":0,"on_failure":"stop"}}`, 200},
		{"order of waves", `{"identifier":"ID","endpoints":["a","b"],"rollout":{}}`, `{"identifier":"ID","endpoints":["b","a"],"rollout":{}}`, 409},
		{"order of waves by name", `{"identifier":"ID","endpoints":["a","b"],"rollout":{"order":"name"}}`, `{"identifier":"ID","endpoints":["b","a"],"rollout":{"order":"name"}}`, 200},
		{"order of a list in the payload", `{"identifier":"ID","payload":[1,2]}`, `{"identifier":"ID","payload":[2,1]}`, 409},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			id := fmt.Sprintf("same-%d", i)
			s.create(t, "/ping", strings.Replace(tt.first, "ID", id, 1))
			if a := s.do(t, http.MethodPost, "/ping", strings.Replace(tt.second, "ID", id, 1)); a.status != tt.status {
				t.Errorf("got %d %s, want %d", a.status, a.body, tt.status)
			}
		})
	}
}

func TestConcurrentRequestsWithOneIdentifier(t *testing.T) {
	t.Parallel()
	s := serve(t)
	statuses := make([]int, 16)
	var wg sync.WaitGroup
	for i := range statuses {
		wg.Go(func() { statuses[i] = s.do(t, http.MethodPost, "/ping", seedBody).status })
	}
	wg.Wait()
	created := 0
	for _, status := range statuses {
		switch status {
		case http.StatusCreated:
			created++
		case http.StatusOK:
		default:
			t.Errorf("got %d", status)
		}
	}
	if created != 1 {
		t.Errorf("created %d times", created)
	}
}

func TestLargestRequest(t *testing.T) {
	t.Parallel()
	s := serve(t)
	payload := `"` + strings.Repeat("x", tasker.MaxPayload-2) + `"`
	if task := s.create(t, "/ping", `{"identifier":"payload","payload":`+payload+`}`); string(task.Payload) != payload {
		t.Errorf("the payload has %d bytes", len(task.Payload))
	}
	names := make([]string, 10_000)
	for i := range names {
		names[i] = fmt.Sprintf("endpoint-%05d-%s", i, strings.Repeat("x", 100))
	}
	list, err := json.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	if task := s.create(t, "/ping", `{"identifier":"endpoints","endpoints":`+string(list)+`}`); len(task.Endpoints) != len(names) || task.Counts[tasker.Pending] != len(names) {
		t.Errorf("%d endpoints, counts %v", len(task.Endpoints), task.Counts)
	}
}
