package api_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/MatthiasWiesner/tasker/controlplane/api"
)

func TestMetricsAndLog(t *testing.T) {
	t.Parallel()
	s := serve(t)
	task := s.create(t, "/ping", `{"identifier":"1","payload":"a secret","endpoints":["a"]}`)
	s.do(t, http.MethodPost, "/ping", `{"identifier":"1","payload":"a secret","endpoints":["a"]}`)
	s.do(t, http.MethodGet, "/ping/1", "")
	s.do(t, http.MethodGet, "/ping/"+task.ID, "")
	s.do(t, http.MethodGet, "/nope", "")
	s.do(t, "BREW", "/ping", "")

	const want = `
# HELP tasker_controlplane_http_requests_total Requests answered, by route, method and status code.
# TYPE tasker_controlplane_http_requests_total counter
tasker_controlplane_http_requests_total{code="200",method="GET",route="/ping/{ref}"} 2
tasker_controlplane_http_requests_total{code="200",method="POST",route="/ping"} 1
tasker_controlplane_http_requests_total{code="201",method="POST",route="/ping"} 1
tasker_controlplane_http_requests_total{code="404",method="GET",route="none"} 1
tasker_controlplane_http_requests_total{code="405",method="other",route="none"} 1
# HELP tasker_controlplane_tasks_created_total Tasks created, by type; repeated requests for the same task are not counted.
# TYPE tasker_controlplane_tasks_created_total counter
tasker_controlplane_tasks_created_total{type="command"} 0
tasker_controlplane_tasks_created_total{type="ping"} 1
# HELP tasker_controlplane_watchers Open event streams.
# TYPE tasker_controlplane_watchers gauge
tasker_controlplane_watchers 0
`
	if err := testutil.GatherAndCompare(s.reg, strings.NewReader(want),
		"tasker_controlplane_http_requests_total", "tasker_controlplane_tasks_created_total", "tasker_controlplane_watchers"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(s.reg); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
	if a := s.do(t, http.MethodGet, "/metrics", ""); a.status != http.StatusOK || !strings.Contains(string(a.body), "tasker_controlplane_http_request_duration_seconds_bucket") {
		t.Errorf("/metrics: %d", a.status)
	}
	log := s.log.String()
	if !strings.Contains(log, "method=POST route=/ping status=201 duration=") || !strings.Contains(log, "by=local type=ping task="+task.ID) {
		t.Errorf("the log does not mention the task:\n%s", log)
	}
	if strings.Contains(log, "a secret") {
		t.Error("the log holds a payload")
	}
}

// Agents keep connections open, so answers for them must be flushed at once.
func TestAgentAnswersAreFlushed(t *testing.T) {
	t.Parallel()
	proceed := make(chan struct{})
	s := serve(t, func(o *api.Options) {
		o.Agents = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(w, "first")
			flusher, ok := w.(http.Flusher)
			if !ok {
				t.Error("no http.Flusher")
				return
			}
			flusher.Flush()
			<-proceed
		})
	})
	resp, err := s.Client().Get(s.URL + "/agent/orders")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	first := make([]byte, len("first\n"))
	if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != "first\n" {
		t.Errorf("%q, %v", first, err)
	}
	close(proceed)
}

func TestPanics(t *testing.T) {
	t.Parallel()
	s := serve(t, func(o *api.Options) {
		o.Agents = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/agent/late" {
				fmt.Fprint(w, "half an ")
				_ = http.NewResponseController(w).Flush()
			}
			panic("a programming error")
		})
	})
	if a := s.do(t, http.MethodGet, "/agent/early", ""); strings.Contains(a.problem(t, http.StatusInternalServerError).Detail, "programming") {
		t.Errorf("the answer leaks the panic: %s", a.body)
	}
	resp, err := s.Client().Get(s.URL + "/agent/late")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("a broken answer looks complete: %q", b)
	}
	if log := s.log.String(); strings.Count(log, "a programming error") != 2 || !strings.Contains(log, "requestlog_test.go") {
		t.Errorf("the log has no panic:\n%s", log)
	}
}
