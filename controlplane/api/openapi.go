package api

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/MatthiasWiesner/tasker"
)

const introduction = "tasker performs a task on a set of servers (endpoints) and reports the outcome of every server.\n\n" +
	"* A **task** is one request. It has your `identifier` and tasker's `id`; paths accept both.\n" +
	"* A **response** is the part of one endpoint in a task: `pending → sent → received → running →` " +
	"`succeeded`, `failed`, `timed_out`, `cancelled`, `rejected` or `interrupted`. It is `missing` if the endpoint did not receive the task in time, and `skipped` if a rollout stopped before it.\n" +
	"* The status of a task follows from its responses: `pending`, `sent`, `running`, or `paused` for a rollout, then `succeeded`, `failed`, `cancelled` or `incomplete` (an endpoint is missing).\n\n" +
	"Errors are `application/problem+json` (RFC 9457); `errors[].location` names the invalid field. " +
	"While the database is unavailable, calls answer 503 with `Retry-After`. Repeating a request is safe: tasks with the same `identifier` are created once."

// The tags of the operations outside the task types.
const (
	endpointTag  = "endpoints"
	enrolmentTag = "enrolment"
	operationTag = "operation"
)

// tags returns the headings of the documentation in their order.
func tags(types []TaskType) []*huma.Tag {
	list := make([]*huma.Tag, 0, len(types)+3)
	for _, t := range types {
		description := t.Summary
		if description == "" {
			description = fmt.Sprintf("Tasks that the handler %s performs.", t.Handler)
		}
		list = append(list, &huma.Tag{Name: t.Name, Description: description})
	}
	return append(list,
		&huma.Tag{Name: endpointTag, Description: "The servers that run an agent."},
		&huma.Tag{Name: enrolmentTag, Description: "Enrol and revoke servers."},
		&huma.Tag{Name: operationTag, Description: "The state of the control plane."})
}

// openAPIConfig returns the parts of the OpenAPI document that do not depend on the task
// types.
func openAPIConfig(version string, tokensRequired bool) huma.Config {
	c := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info:    &huma.Info{Title: "tasker", Version: version, Description: introduction},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
			},
		},
		Formats:                      huma.DefaultFormats,
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
	}
	if tokensRequired {
		c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"token": {
			Type: "http", Scheme: "bearer", Description: "The content of `admin.token` in the control plane's `data_dir`.",
		}}
		c.Security = []map[string][]string{{"token": {}}}
	}
	return c
}

// noSecurity is the security of an operation that needs no token.
func noSecurity() []map[string][]string { return []map[string][]string{{}} }

// completeOpenAPI adds what the Go types cannot express, and the operation that huma does
// not serve. It returns the document as JSON.
func completeOpenAPI(doc *huma.OpenAPI) ([]byte, error) {
	schemas := doc.Components.Schemas.Map()
	progress := schemas["Response"].Properties["progress"]
	schemas["Response"].Properties["progress"] = &huma.Schema{
		Description: progress.Description, AnyOf: []*huma.Schema{{Ref: progress.Ref}, {Type: "null"}},
	}
	schemas["Response"].Properties["status"].Enum = enumOf(tasker.ResponseStatuses())
	schemas["Task"].Properties["status"].Enum = enumOf(tasker.TaskStatuses())
	refineRollout(schemas["Rollout"].Properties)
	refineRollout(schemas["RolloutSpec"].Properties)
	schemas["Rollout"].Properties["state"].Enum = enumOf(tasker.RolloutStates())
	delete(schemas, "Amount")
	schemas["Callback"].Properties["events"].Items = &huma.Schema{Type: huma.TypeString, Enum: enumOf(tasker.CallbackEvents())}
	delivery := schemas["Delivery"].Properties
	delivery["event"].Enum, delivery["status"].Enum = enumOf(tasker.CallbackEvents()), enumOf(tasker.DeliveryStatuses())
	doc.AddOperation(&huma.Operation{
		OperationID: "metrics", Method: http.MethodGet, Path: "/metrics", Tags: []string{operationTag},
		Summary: "Metrics", Description: "In the text format of Prometheus.",
		Responses: map[string]*huma.Response{"200": {
			Description: "OK", Content: map[string]*huma.MediaType{"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}}},
		}},
	})
	doc.Servers = []*huma.Server{{URL: ".", Description: "relative to this document"}}
	document, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("api: write the OpenAPI document: %w", err)
	}
	return document, nil
}
