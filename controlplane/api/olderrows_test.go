package api_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"unicode/utf8"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/api"
)

// An older control plane stored reports as they were. The answers are valid nevertheless.
func TestAnswersWithRowsOfAnOlderControlPlane(t *testing.T) {
	t.Parallel()
	s := serve(t)
	other := hello("b")
	other.Hello.Metrics = "http://evil/x"
	several := hello("c")
	several.Hello.Metrics = "a:1,b:2"
	apply(t, s.store, hello("a"), other, several)
	task := s.create(t, "/ping", `{"identifier":"1","endpoints":["a","b"]}`)
	latin, broken := update(task, "a", 1, tasker.Succeeded), update(task, "b", 1, tasker.Succeeded)
	latin.Update.Result, broken.Update.Result = []byte("{\"x\":\"Gr\xfcn\"}"), []byte(`{"x"`)
	latin.Update.Output, latin.Update.OutputBytes = []tasker.Chunk{{Data: []byte("Gr\xfcn\n")}}, 5
	apply(t, s.store, latin, broken)

	for path, want := range map[string]string{"/ping/1": "", "/ping/1/responses/a/output": "Gr\uFFFDn\n"} {
		a := s.do(t, http.MethodGet, path, "")
		if a.status != http.StatusOK || !utf8.Valid(a.body) || want != "" && string(a.body) != want || want == "" && !json.Valid(a.body) {
			t.Errorf("GET %s: %d %q", path, a.status, a.body)
		}
	}
	pieces := decode[api.Output](t, s.do(t, http.MethodGet, "/ping/1/responses/a/output", "", "Accept", "application/json"), http.StatusOK)
	if len(pieces.Chunks) != 1 || string(pieces.Chunks[0].Data) != "Gr\xfcn\n" {
		t.Errorf("pieces: %+v", pieces.Chunks)
	}
	if targets := decode[[]api.TargetGroup](t, s.do(t, http.MethodGet, "/sd/prometheus", ""), http.StatusOK); len(targets) != 1 || targets[0].Labels["endpoint"] != "a" {
		t.Errorf("targets: %+v", targets)
	}
}
