package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/api"
)

// A plan has the endpoints and waves that the task would have, and stores nothing.
func TestPlan(t *testing.T) {
	t.Parallel()
	s := serve(t)
	idle := hello("b")
	idle.Hello.Handlers = []string{"command"}
	apply(t, s.store, hello("a"), idle, hello("c"))
	tests := map[string]struct {
		body string
		want tasker.WavePlan
	}{
		"at once": {
			`{"identifier":"1","endpoints":["c","x"]}`,
			tasker.WavePlan{Waves: [][]string{{"c", "x"}}, NotConnected: []string{"x"}},
		},
		"broadcast": {
			`{"identifier":"2"}`,
			tasker.WavePlan{Waves: [][]string{{"a", "c"}}, Broadcast: true},
		},
		"in waves": {
			`{"identifier":"3","endpoints":["c","b","a"],"rollout":{"canary":1,"batch":2}}`,
			tasker.WavePlan{Waves: [][]string{{"c"}, {"b", "a"}}, NotServing: []string{"b"}},
		},
		"in waves to every endpoint, by name": {
			`{"identifier":"4","rollout":{"batch":1,"order":"name"}}`,
			tasker.WavePlan{Waves: [][]string{{"a"}, {"c"}}},
		},
	}
	for name, tt := range tests {
		got := decode[tasker.WavePlan](t, s.do(t, http.MethodPost, "/ping/plan", tt.body), http.StatusOK)
		tt.want.Type = "ping"
		if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(tasker.WavePlan{}, "Rollout")); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
		if in := strings.Contains(tt.body, "rollout"); in != (got.Rollout != nil) {
			t.Errorf("%s: the rollout is %+v", name, got.Rollout)
		}
	}
	if a := serve(t).do(t, http.MethodPost, "/ping/plan", `{"identifier":"6"}`); !strings.Contains(string(a.body), `"waves":[[]]`) {
		t.Errorf("without a known endpoint: %s", a.body)
	}
	if list := decode[api.TaskList](t, s.do(t, http.MethodGet, "/ping", ""), http.StatusOK); len(list.Tasks) > 0 {
		t.Errorf("stored: %+v", list.Tasks)
	}
}

// A plan rejects what a task is rejected for, and names an existing task.
func TestPlanRejects(t *testing.T) {
	t.Parallel()
	s := serve(t)
	apply(t, s.store, hello("a"))
	task := s.create(t, "/ping", `{"identifier":"1","endpoints":["a"]}`)
	plan := func(path, body string) answer { return s.do(t, http.MethodPost, path+"/plan", body) }
	if p := decode[tasker.WavePlan](t, plan("/ping", `{"identifier":"1","endpoints":["a"]}`), http.StatusOK); p.Task != task.ID {
		t.Errorf("plan of the same request: %+v, want task %s", p, task.ID)
	}
	for name, tt := range map[string]struct {
		path, body string
		status     int
		want       string
	}{
		"different request": {"/ping", `{"identifier":"1"}`, 409, ""},
		"payload":           {"/command", `{"identifier":"2","payload":{"argv":[]}}`, 422, "body.payload.argv"},
		"cannot be undone":  {"/command", `{"identifier":"2","payload":{"argv":["x"]},"rollout":{"on_failure":"rollback"}}`, 422, "body.rollout.on_failure is rollback, but"},
		"no endpoint":       {"/ping", `{"identifier":"2","labels":"role=none"}`, 422, ""},
		"no JSON":           {"/ping", `{`, 400, ""},
		"callback":          {"/ping", `{"identifier":"2","callback":"http://elsewhere.example.net/"}`, 422, "body.callback"},
	} {
		if p := plan(tt.path, tt.body).problem(t, tt.status); !strings.Contains(p.Detail, tt.want) {
			t.Errorf("%s: %q, want %q", name, p.Detail, tt.want)
		}
	}
	if p := s.do(t, http.MethodPost, "/ping/plan", `{"identifier":"2"}`, "Content-Type", "text/plain"); p.status != http.StatusUnsupportedMediaType {
		t.Errorf("with another content type: %d", p.status)
	}
}
