package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/api"
)

// spec is the description of the API.
type spec struct {
	OpenAPI string `json:"openapi"`
	Tags    []struct {
		Name        string `json:"name"`
		Description string `json:"description"`
	} `json:"tags"`
	Paths map[string]map[string]struct {
		OperationID string   `json:"operationId"`
		Summary     string   `json:"summary"`
		Description string   `json:"description"`
		Tags        []string `json:"tags"`
		RequestBody struct {
			Content map[string]media `json:"content"`
		} `json:"requestBody"`
		Responses map[string]struct {
			Content map[string]media `json:"content"`
		} `json:"responses"`
	} `json:"paths"`
	Components struct {
		Schemas map[string]struct {
			Properties map[string]struct {
				Description string `json:"description"`
			} `json:"properties"`
		} `json:"schemas"`
	} `json:"components"`
}

type media struct {
	Schema   json.RawMessage `json:"schema"`
	Example  json.RawMessage `json:"example"`
	Examples map[string]struct {
		Value json.RawMessage `json:"value"`
	} `json:"examples"`
}

func TestDescription(t *testing.T) {
	t.Parallel()
	s := serve(t)
	a := s.do(t, http.MethodGet, "/openapi.json", "")
	doc := decode[spec](t, a, http.StatusOK)
	if doc.OpenAPI != "3.1.0" {
		t.Errorf("openapi is %q", doc.OpenAPI)
	}
	var headings []string
	for _, tag := range doc.Tags {
		headings = append(headings, tag.Name)
		if tag.Description == "" {
			t.Errorf("the heading %s has no description", tag.Name)
		}
	}
	if !slices.Equal(headings, []string{"ping", "command", "endpoints", "enrolment", "operation"}) {
		t.Errorf("headings: %v", headings)
	}
	check := compiler(t, a.body)
	examples := 0
	for path, operations := range doc.Paths {
		for method, op := range operations {
			if op.OperationID == "" || op.Summary == "" || op.Description == "" || len(op.Tags) != 1 {
				t.Errorf("%s %s is not described: %+v", method, path, op)
			}
			at := "/paths/" + strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(path) + "/" + method
			for name, m := range op.RequestBody.Content {
				for _, e := range m.Examples {
					examples++
					check(at+"/requestBody/content/"+strings.ReplaceAll(name, "/", "~1")+"/schema", e.Value)
				}
			}
			for code, response := range op.Responses {
				for name, m := range response.Content {
					if m.Example != nil && strings.HasSuffix(name, "json") {
						examples++
						check(at+"/responses/"+code+"/content/"+strings.ReplaceAll(name, "/", "~1")+"/schema", m.Example)
					}
				}
			}
		}
	}
	if examples < 10 {
		t.Errorf("only %d examples", examples)
	}
	for name, schema := range doc.Components.Schemas {
		for field, property := range schema.Properties {
			if property.Description == "" {
				t.Errorf("%s.%s has no description", name, field)
			}
		}
	}
	if text := string(a.body); !strings.Contains(text, "The program and its arguments.") || !strings.Contains(text, "/usr/bin/uptime") {
		t.Error("the payload schema of a type is not shown")
	}
}

// compiler returns a check of a value against a schema within an OpenAPI document.
func compiler(t *testing.T, doc []byte) func(pointer string, value json.RawMessage) {
	t.Helper()
	whole, err := jsonschema.UnmarshalJSON(strings.NewReader(string(doc)))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("http://localhost/openapi.json", whole); err != nil {
		t.Fatal(err)
	}
	return func(pointer string, value json.RawMessage) {
		t.Helper()
		schema, err := c.Compile("http://localhost/openapi.json#" + pointer)
		if err != nil {
			t.Errorf("%s: %v", pointer, err)
			return
		}
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(value)))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(v); err != nil {
			t.Errorf("%s: the example does not fit: %v", pointer, err)
		}
	}
}

// What is described is what is answered.
func TestAnswersFitTheDescription(t *testing.T) {
	t.Parallel()
	s := serve(t)
	check := compiler(t, s.do(t, http.MethodGet, "/openapi.json", "").body)
	apply(t, s.store, hello("a"), hello("b"))
	task := s.create(t, "/ping", `{"identifier":"1","endpoints":["a","b"]}`)
	broadcast := s.create(t, "/ping", `{"identifier":"2"}`)
	report := update(task, "a", 1, tasker.Succeeded)
	report.Update.Output = []tasker.Chunk{{Data: []byte("done\n")}}
	report.Update.Progress = &tasker.Progress{Percent: 100}
	apply(t, s.store, report, update(broadcast, "b", 1, tasker.Running))
	undone := s.create(t, "/ping", `{"identifier":"3","endpoints":["a"],"callback":"https://hooks.example.net/"}`)
	apply(t, s.store, update(undone, "a", 1, tasker.Succeeded))
	decode[tasker.Task](t, s.do(t, http.MethodPost, "/ping/3/undo", ""), http.StatusCreated)
	for path, schema := range map[string]string{
		"/ping/1":                    "TaskAndResponses",
		"/ping/2":                    "TaskAndResponses",
		"/ping/3":                    "TaskAndResponses",
		"/ping":                      "TaskList",
		"/endpoints":                 "EndpointList",
		"/endpoints/a":               "Endpoint",
		"/healthz":                   "Health",
		"/readyz":                    "Readiness",
		"/ping/1/responses/a/output": "Output",
		"/ping/nope":                 "ErrorModel",
		"/ping?limit=0":              "ErrorModel",
	} {
		check("/components/schemas/"+schema, s.do(t, http.MethodGet, path, "", "Accept", "application/json").body)
	}
}

func TestDocsPageNeedsNothingFromElsewhere(t *testing.T) {
	t.Parallel()
	s := serve(t)
	page := s.do(t, http.MethodGet, "/docs", "")
	if page.status != http.StatusOK || !strings.Contains(page.header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Fatalf("got %d, %v", page.status, page.header)
	}
	loaded := regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllSubmatch(page.body, -1)
	if len(loaded) < 3 {
		t.Errorf("the page loads %d files", len(loaded))
	}
	for _, m := range loaded {
		if path := string(m[1]); !strings.HasPrefix(path, "/docs/") {
			t.Errorf("the page loads %s", path)
		} else if a := s.do(t, http.MethodGet, path, ""); a.status != http.StatusOK || len(a.body) == 0 {
			t.Errorf("GET %s: %d", path, a.status)
		}
	}
	if a := s.do(t, http.MethodGet, "/", "", "Accept", "text/html"); a.status != http.StatusFound || a.header.Get("Location") != "/docs" {
		t.Errorf("a browser at the root: %d %s", a.status, a.header.Get("Location"))
	}
	if root := decode[api.Root](t, s.do(t, http.MethodGet, "/", ""), http.StatusOK); !slices.Equal(root.TaskTypes, []string{"ping", "command"}) {
		t.Errorf("the root: %+v", root)
	}
}

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
		t.Errorf("the log does not tell of the task:\n%s", log)
	}
	if strings.Contains(log, "a secret") {
		t.Error("the log holds a payload")
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	if _, err := api.New(api.Options{}); err == nil {
		t.Error("New takes empty options")
	}
}

// Agents hold answers open: what is written for them must not be held back.
func TestAgentsAnswersAreNotHeldBack(t *testing.T) {
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
