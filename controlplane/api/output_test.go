package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/api"
)

func TestOutput(t *testing.T) {
	t.Parallel()
	s := serve(t)
	apply(t, s.store, hello("a"))
	task := s.create(t, "/ping", `{"identifier":"1","endpoints":["a","b"]}`)
	report := update(task, "a", 1, tasker.Succeeded)
	report.Update.Output = []tasker.Chunk{{Offset: 0, Data: []byte("head, ")}, {Offset: 6, Data: []byte("on")}, {Offset: 1000, Data: []byte("tail\n")}}
	report.Update.OutputBytes, report.Update.OutputTruncated = 1005, true
	apply(t, s.store, report)

	a := s.do(t, http.MethodGet, "/ping/1/responses/a/output", "")
	if want := "head, on\n[... 992 bytes left out ...]\ntail\n"; a.status != http.StatusOK || string(a.body) != want {
		t.Errorf("got %d %q, want %q", a.status, a.body, want)
	}
	for name, want := range map[string]string{
		"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff",
		"Tasker-Output-Bytes": "1005", "Tasker-Output-Truncated": "true", "Tasker-Attempt": "1",
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	pieces := decode[api.Output](t, s.do(t, http.MethodGet, "/ping/1/responses/a/output", "", "Accept", "application/json"), http.StatusOK)
	var kept strings.Builder
	for _, c := range pieces.Chunks {
		kept.Write(c.Data)
	}
	if kept.String() != "head, ontail\n" || pieces.Bytes != 1005 || !pieces.Truncated || pieces.Endpoint != "a" {
		t.Errorf("pieces: %+v", pieces)
	}
	if a := s.do(t, http.MethodGet, "/ping/1/responses/b/output", ""); a.status != http.StatusOK || len(a.body) != 0 || a.header.Get("Tasker-Output-Bytes") != "0" {
		t.Errorf("empty output: %d %q", a.status, a.body)
	}
	s.do(t, http.MethodGet, "/ping/1/responses/c/output", "").problem(t, http.StatusNotFound)
	s.do(t, http.MethodGet, "/ping/1/responses/C/output", "").problem(t, http.StatusNotFound)
}
