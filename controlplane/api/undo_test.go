package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/api"
)

// A request is rejected if every agent would reject its undo task.
func TestImpossibleUndo(t *testing.T) {
	t.Parallel()
	s := serve(t, func(o *api.Options) { o.Types[0].CanUndo = false })
	const rollback = `{"identifier":"back","payload":PAYLOAD,"endpoints":["a"],"rollout":{"on_failure":"rollback"}}`
	for _, tt := range []struct{ path, payload, want string }{
		{"/ping", `{"undo":["b"]}`, "the handler ping cannot undo"},
		{"/command", `{"argv":["a"]}`, "the payload has no undo, without which the handler command cannot undo"},
		{"/command", `{"argv":["a"],"undo":["b"]}`, ""},
	} {
		with := func(body string) string { return strings.Replace(body, "PAYLOAD", tt.payload, 1) }
		post := s.do(t, http.MethodPost, tt.path, with(rollback))
		task := s.create(t, tt.path, with(`{"identifier":"plain `+tt.want+`","payload":PAYLOAD,"endpoints":["a"]}`))
		apply(t, s.store, update(task, "a", 1, tasker.Succeeded))
		undo := s.do(t, http.MethodPost, tt.path+"/"+task.ID+"/undo", "")
		if tt.want == "" {
			decode[tasker.Task](t, post, http.StatusCreated)
			decode[tasker.Task](t, undo, http.StatusCreated)
			continue
		}
		p := post.problem(t, http.StatusUnprocessableEntity)
		if want := "body.rollout.on_failure is rollback, but " + tt.want; !strings.HasPrefix(p.Detail, want) {
			t.Errorf("%s with %s: %s, want %s", tt.path, tt.payload, p.Detail, want)
		}
		if got, want := undo.problem(t, http.StatusConflict).Detail, "the task cannot be undone: "+tt.want; got != want {
			t.Errorf("undo of %s with %s: %s, want %s", tt.path, tt.payload, got, want)
		}
	}
	s.do(t, http.MethodPost, "/command/nope/undo", "").problem(t, http.StatusNotFound)
}
