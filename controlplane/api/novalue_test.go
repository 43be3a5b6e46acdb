package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/controlplane/api"
)

// TestFieldWithoutValueStoresNothing checks that a field whose value the caller has lost is
// refused: it must not mean every endpoint, all at once or now.
func TestFieldWithoutValueStoresNothing(t *testing.T) {
	t.Parallel()
	s := serve(t)
	apply(t, s.store, hello("a"))
	for field, values := range map[string][]string{
		"endpoints":       {`null`, `[]`, `""`, `[""]`, `[" "]`, `[null]`, `["a",""]`},
		"labels":          {`null`, `""`, `" "`, `","`, `[]`, `"role="`, `"role!="`},
		"rollout":         {`null`, `""`, `[]`},
		"dry_run":         {`null`, `""`},
		"not_before":      {`null`, `""`},
		"timeout":         {`null`, `""`},
		"receive_timeout": {`null`, `""`},
		"callback":        {`null`, `""`, `{}`},
	} {
		for _, value := range values {
			body := `{"identifier":"1","` + field + `":` + value + `}`
			for _, path := range []string{"/ping", "/ping/plan"} {
				problem := s.do(t, http.MethodPost, path, body).problem(t, http.StatusUnprocessableEntity)
				if len(problem.Errors) != 1 || !strings.HasPrefix(problem.Errors[0].Location, "body."+field) {
					t.Errorf("POST %s %s: %+v", path, body, problem)
				}
			}
		}
	}
	list := decode[api.TaskList](t, s.do(t, http.MethodGet, "/ping", ""), http.StatusOK)
	if len(list.Tasks) != 0 {
		t.Errorf("%d tasks are stored: %+v", len(list.Tasks), list.Tasks)
	}
}
