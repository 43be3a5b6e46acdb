package api_test

import (
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/api"
)

// TestOpenAPIDocument compares the document, without its descriptions, with
// testdata/openapi.json. To accept a change of the API, run the test with
// TASKER_UPDATE_OPENAPI=1.
func TestOpenAPIDocument(t *testing.T) {
	t.Parallel()
	s := serve(t, func(o *api.Options) { o.Types = o.Types[1:] }) // the type with a payload schema
	var document any
	if err := json.Unmarshal(s.do(t, http.MethodGet, "/openapi.json", "").body, &document); err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(withoutDescriptions(document), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/openapi.json"
	if os.Getenv("TASKER_UPDATE_OPENAPI") != "" {
		if err := os.WriteFile(golden, append(got, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
		t.Errorf("the API has changed (-want +got):\n%s", diff)
	}
}

// withoutDescriptions removes the texts for people from a part of the document.
func withoutDescriptions(part any) any {
	switch part := part.(type) {
	case map[string]any:
		for key, value := range part {
			if _, isText := value.(string); isText && (key == "description" || key == "summary") {
				delete(part, key)
				continue
			}
			part[key] = withoutDescriptions(value)
		}
	case []any:
		for i, value := range part {
			part[i] = withoutDescriptions(value)
		}
	}
	return part
}

// openAPI is a part of an OpenAPI document.
type openAPI struct {
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

func TestDescriptions(t *testing.T) {
	t.Parallel()
	s := serve(t)
	a := s.do(t, http.MethodGet, "/openapi.json", "")
	doc := decode[openAPI](t, a, http.StatusOK)
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
				t.Errorf("%s %s has no complete description: %+v", method, path, op)
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
		t.Error("the payload schema of a type is missing")
	}
}

// compiler returns a function that validates a value with a schema of an OpenAPI
// document.
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
			t.Errorf("%s: the value is not valid: %v", pointer, err)
		}
	}
}

// Answers are valid according to the document.
func TestAnswersMatchDocument(t *testing.T) {
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
