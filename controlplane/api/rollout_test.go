package api_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/api"
)

func TestLabelsAreResolvedOnce(t *testing.T) {
	t.Parallel()
	s := serve(t)
	other := hello("c")
	other.Hello.Labels = map[string]string{"role": "database"}
	apply(t, s.store, hello("b"), hello("a"), other)
	const body = `{"identifier":"1","endpoints":["x"],"labels":"role=loadbalancer","rollout":{"canary":1,"batch":1}}`
	task := s.create(t, "/ping", body)
	if !slices.Equal(task.Endpoints, []string{"x", "a", "b"}) || task.Labels != "role=loadbalancer" {
		t.Errorf("endpoints %v, labels %q", task.Endpoints, task.Labels)
	}
	if r := task.Rollout; r == nil || !slices.Equal(r.Waves, []int{1, 1, 1}) || r.State != tasker.RolloutScheduled || r.OnFailure != tasker.OnFailureStop {
		t.Errorf("rollout %+v", task.Rollout)
	}
	apply(t, s.store, hello("d"))
	repeated := decode[tasker.Task](t, s.do(t, http.MethodPost, "/ping", body), http.StatusOK)
	if repeated.ID != task.ID || !slices.Equal(repeated.Endpoints, task.Endpoints) {
		t.Errorf("repeated request: %s with %v", repeated.ID, repeated.Endpoints)
	}
	s.do(t, http.MethodPost, "/ping", strings.Replace(body, "role=loadbalancer", "role=database", 1)).problem(t, http.StatusConflict)
	all := s.create(t, "/ping", `{"identifier":"2","rollout":{"order":"name"}}`)
	if !slices.Equal(all.Endpoints, []string{"a", "b", "c", "d"}) {
		t.Errorf("waves of every endpoint: %v", all.Endpoints)
	}
}

func TestPauseResumeUndo(t *testing.T) {
	t.Parallel()
	s := serve(t)
	task := s.create(t, "/ping", `{"identifier":"1","endpoints":["a","b"],"rollout":{"batch":1}}`)
	path := "/ping/" + task.ID
	s.do(t, http.MethodPost, path+"/resume", "").problem(t, http.StatusConflict)
	paused := decode[tasker.Task](t, s.do(t, http.MethodPost, path+"/pause", ""), http.StatusAccepted)
	if paused.Status != tasker.TaskPaused || paused.Rollout.State != tasker.RolloutPaused {
		t.Errorf("paused: %s, %+v", paused.Status, paused.Rollout)
	}
	decode[tasker.Task](t, s.do(t, http.MethodPost, path+"/resume", ""), http.StatusAccepted)
	s.do(t, http.MethodPost, path+"/undo", "").problem(t, http.StatusConflict)
	got := decode[api.TaskAndResponses](t, s.do(t, http.MethodGet, path, ""), http.StatusOK)
	var actions []string
	for _, c := range got.Controls {
		actions = append(actions, c.Action)
		if c.By == "" || time.Since(c.At) > time.Minute {
			t.Errorf("control: %+v", c)
		}
	}
	if !slices.Equal(actions, []string{"pause", "resume"}) {
		t.Errorf("controls: %v", actions)
	}

	plain := s.create(t, "/ping", `{"identifier":"2","endpoints":["a"]}`)
	path = "/ping/" + plain.ID
	s.do(t, http.MethodPost, path+"/pause", "").problem(t, http.StatusConflict)
	apply(t, s.store, update(plain, "a", 1, tasker.Succeeded))
	undoneBy := func() string {
		return decode[api.TaskAndResponses](t, s.do(t, http.MethodGet, path, ""), http.StatusOK).UndoneBy
	}
	if got := undoneBy(); got != "" {
		t.Errorf("before the undo, the task is undone by %s", got)
	}
	undo := decode[tasker.Task](t, s.do(t, http.MethodPost, path+"/undo", ""), http.StatusCreated)
	if undo.Action != tasker.Undo || undo.Undoes != plain.ID || !slices.Equal(undo.Endpoints, []string{"a"}) {
		t.Errorf("undo: %+v", undo)
	}
	if got := undoneBy(); got != undo.ID {
		t.Errorf("undone by %q, want %s", got, undo.ID)
	}
}
