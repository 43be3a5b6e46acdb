package api

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5emb"

	"github.com/MatthiasWiesner/tasker"
)

const (
	rootPath    = "/{$}"
	docsPath    = "/docs"
	openAPIPath = "/openapi.json"
)

// docsPolicy keeps the page from loading anything from elsewhere.
const docsPolicy = "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; " +
	"img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// tokenForm asks for the token once in a tab, and shows it with each request.
//
//go:embed token.html
var tokenForm string

// noToken marks an operation that anyone may call.
func noToken() []map[string][]string { return []map[string][]string{{}} }

// tags are the headings of the page, in its order.
func tags(types []Type) []*huma.Tag {
	list := make([]*huma.Tag, 0, len(types)+3)
	for _, t := range types {
		text := t.Summary
		if text == "" {
			text = fmt.Sprintf("Tasks that the handler %s performs.", t.Handler)
		}
		list = append(list, &huma.Tag{Name: t.Name, Description: text})
	}
	return append(list,
		&huma.Tag{Name: "endpoints", Description: "The servers with an agent."},
		&huma.Tag{Name: "enrolment", Description: "Letting servers in, and shutting them out."},
		&huma.Tag{Name: "operation", Description: "The control plane itself."})
}

// describe is the part of the description that does not depend on the types.
func describe(version string, tokens bool) huma.Config {
	c := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info:    &huma.Info{Title: "tasker", Version: version, Description: aboutText},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
			},
		},
		Formats:                      huma.DefaultFormats,
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
	}
	if tokens {
		c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"token": {
			Type: "http", Scheme: "bearer", Description: "The content of `admin.token` in the control plane's `data_dir`.",
		}}
		c.Security = []map[string][]string{{"token": {}}}
	}
	return c
}

// docsRoutes serves the description, the page that shows it, and a first hint
// for those who look at the root. It comes after all other operations.
func (a *API) docsRoutes(spec []byte) {
	a.mux.HandleFunc("GET "+openAPIPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(spec)
	})
	page := v5emb.NewHandlerWithConfig(swgui.Config{
		Title: "tasker", SwaggerJSON: openAPIPath, BasePath: docsPath,
		PrependHTML: template.HTML(tokenForm), //nolint:gosec // the file beside this one
		SettingsUI: map[string]string{
			"defaultModelsExpandDepth": "1",
			"displayRequestDuration":   "true",
			"tryItOutEnabled":          "true",
			"requestInterceptor":       "sendToken",
			"responseInterceptor":      "askForToken",
		},
	})
	show := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", docsPolicy)
		page.ServeHTTP(w, r)
	}
	a.mux.HandleFunc("GET "+docsPath, show)
	a.mux.HandleFunc("GET "+docsPath+"/", show)
	a.mux.HandleFunc("GET "+rootPath, a.root)
}

// Root is what a look at the root tells.
type Root struct {
	Name      string            `json:"name"`
	Version   string            `json:"version"`
	TaskTypes []string          `json:"task_types"`
	Links     map[string]string `json:"links"`
}

// root leads people to the page and tells programs where to go.
func (a *API) root(w http.ResponseWriter, r *http.Request) {
	if isBrowser(r) {
		http.Redirect(w, r, docsPath, http.StatusFound)
		return
	}
	writeJSON(w, http.StatusOK, "application/json", Root{
		Name: "tasker", Version: a.version, TaskTypes: a.typeNames(),
		Links: map[string]string{
			"docs": docsPath, "openapi": openAPIPath, "endpoints": "/endpoints", "ready": "/readyz", "metrics": "/metrics",
		},
	})
}

// isBrowser says whether a person looks, rather than a program.
func isBrowser(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}

// explain gives the fields of the answers, which are declared where nothing is
// known of HTTP, their descriptions, adds what is served without huma, and
// returns the whole as JSON.
func explain(doc *huma.OpenAPI) ([]byte, error) {
	for name, texts := range fieldTexts() {
		schema := doc.Components.Schemas.Map()[name]
		if schema == nil {
			return nil, fmt.Errorf("api: no schema %s to describe", name)
		}
		for field, s := range schema.Properties {
			if text := texts[field]; text != "" {
				s.Description = text
			}
		}
	}
	response := doc.Components.Schemas.Map()["Response"].Properties
	response["progress"] = &huma.Schema{
		Description: response["progress"].Description,
		AnyOf:       []*huma.Schema{{Ref: response["progress"].Ref}, {Type: "null"}},
	}
	response["status"].Enum = anyOf(tasker.ResponseStatuses())
	doc.Components.Schemas.Map()["Task"].Properties["status"].Enum = anyOf(tasker.TaskStatuses())
	explainRollout(doc.Components.Schemas.Map())
	explainCallbacks(doc.Components.Schemas.Map())
	doc.AddOperation(&huma.Operation{
		OperationID: "metrics", Method: http.MethodGet, Path: "/metrics", Tags: []string{"operation"},
		Summary: "Metrics", Description: "In Prometheus' text format.",
		Responses: map[string]*huma.Response{"200": {
			Description: "OK", Content: map[string]*huma.MediaType{"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}}},
		}},
	})
	spec, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("api: write the description: %w", err)
	}
	return spec, nil
}

func anyOf[T ~string](words []T) []any {
	list := make([]any, len(words))
	for i, w := range words {
		list[i] = string(w)
	}
	return list
}

// describeCreate describes the body by which a task of this type is made.
func (r taskRoutes) describeCreate(op huma.Operation) error {
	payload, examplePayload := &huma.Schema{}, json.RawMessage(`{"foo":"bar"}`)
	if r.Schema != nil {
		var keywords map[string]any
		if err := json.Unmarshal(r.Schema, &keywords); err != nil {
			return fmt.Errorf("api: payload schema of %s: %w", r.Name, err)
		}
		examplePayload = payloadExample(keywords)
		for _, k := range []string{"$schema", "$id"} {
			delete(keywords, k)
		}
		payload.Extensions = keywords
	}
	if _, found := payload.Extensions["description"]; !found {
		payload.Description = "What the handler on the endpoints works with: any JSON. Left out: `{}`."
	}
	timeout := duration("Bounds the execution on each endpoint.", "5m")
	if r.Timeout > 0 {
		timeout.Description += fmt.Sprintf(" At most %v, which it is if left out.", r.Timeout)
	}
	limit, one, most := 255, 1, maxEndpoints
	schema := &huma.Schema{
		Type: huma.TypeObject, Required: []string{"identifier"}, AdditionalProperties: false,
		Properties: map[string]*huma.Schema{
			"identifier": {
				Type: huma.TypeString, MinLength: &one, MaxLength: &limit,
				Description: "Your own name for the task, unique within the type: 1 to 255 bytes of UTF-8 without '/' and control characters, and not `undo-ID-ATTEMPT`, which tasker names the tasks that undo others.",
			},
			"payload": payload,
			"endpoints": {
				Type: huma.TypeArray, Nullable: true, MinItems: &one, MaxItems: &most, UniqueItems: true,
				Items:       &huma.Schema{Type: huma.TypeString, Pattern: "^[a-z0-9][a-z0-9._-]{0,127}$"},
				Description: "Who shall perform it. Left out: every endpoint that serves the type.",
			},
			"receive_timeout": duration(fmt.Sprintf("Time in which all endpoints should receive the task. Left out: %v.", r.receiveTimeout), "30s"),
			"timeout":         timeout,
			"labels": {
				Type: huma.TypeString, Nullable: true, Examples: []any{"role=loadbalancer,zone!=b"},
				Description: "Adds every known endpoint whose labels match: `KEY=VALUE`, `KEY!=VALUE`, `KEY` or `!KEY`, all of those given.",
			},
			"rollout":    r.describeRollout(),
			"callback":   describeCallback(),
			"not_before": {Type: huma.TypeString, Nullable: true, Format: "date-time", Description: "When the task begins. Left out: at once."},
			"dry_run": {
				Type: huma.TypeBoolean, Nullable: true,
				Description: "Nothing is changed: each endpoint checks the payload and, if its handler can, says in its result what it would change. A task of its own, with an identifier of its own.",
			},
		},
	}
	// The maps are shared with the registered operation.
	op.RequestBody.Content["application/json"] = &huma.MediaType{
		Schema: schema,
		Examples: map[string]*huma.Example{
			"endpoints": {Summary: "To two endpoints", Value: exampleRequest(examplePayload, "loadbalancer-1", "loadbalancer-2")},
			"everyone":  {Summary: "To everyone who serves the type", Value: exampleRequest(examplePayload)},
			"rollout":   {Summary: "In waves", Value: exampleRollout(examplePayload)},
		},
	}
	task := exampleTask(r.Name, examplePayload)
	created := op.Responses["201"]
	created.Description = "Created: the task."
	created.Content["application/json"].Example = task
	same := *created
	same.Description = "The very same request was made before: the task as it stands now."
	op.Responses["200"] = &same
	for code, p := range exampleProblems() {
		op.Responses[strconv.Itoa(code)].Content["application/problem+json"].Example = p
	}
	return nil
}

// duration describes a time given as text or as a number.
func duration(text, example string) *huma.Schema {
	return &huma.Schema{
		Description: text + " A text like `90s`, `10m` or `1h30m`, or a number of seconds.",
		Examples:    []any{example},
		Extensions:  map[string]any{"type": []string{"string", "number", "null"}},
	}
}

// payloadExample is the first example of a schema, where it has one.
func payloadExample(schema map[string]any) json.RawMessage {
	if examples, ok := schema["examples"].([]any); ok && len(examples) > 0 {
		if b, err := json.Marshal(examples[0]); err == nil {
			return b
		}
	}
	return json.RawMessage(`{}`)
}

// described returns a response in a media type beside JSON.
func described(text, media string, m huma.MediaType, headers map[string]*huma.Param) *huma.Response {
	return &huma.Response{Description: text, Content: map[string]*huma.MediaType{media: &m}, Headers: maps.Clone(headers)}
}
