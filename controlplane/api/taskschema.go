package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/MatthiasWiesner/tasker"
)

// documentCreate completes the documentation of the create operation. The parser reads
// the body, so huma does not know its schema. The maps of op are those of the registered
// operation.
func (r taskResource) documentCreate(op huma.Operation) error {
	payload, examplePayload, err := r.payloadSchema()
	if err != nil {
		return err
	}
	op.RequestBody.Content["application/json"] = &huma.MediaType{
		Schema: r.requestSchema(payload),
		Examples: map[string]*huma.Example{
			"endpoints": {Summary: "To two endpoints", Value: exampleRequest(examplePayload, "endpoints", []string{"loadbalancer-1", "loadbalancer-2"})},
			"everyone":  {Summary: "To every endpoint that serves the type", Value: exampleRequest(examplePayload)},
			"rollout": {Summary: "In waves", Value: exampleRequest(examplePayload, "labels", "role=loadbalancer",
				"rollout", map[string]any{"canary": 1, "batch": "25%", "max_failures": 1, "pause_between": "30s"})},
		},
	}
	created := op.Responses["201"]
	created.Description = "The task is created."
	created.Content["application/json"].Example = exampleTask(r.taskType.Name, examplePayload)
	repeated := *created
	repeated.Description = "The same request created the task before. The body is its current state."
	op.Responses["200"] = &repeated
	for _, p := range exampleProblems() {
		op.Responses[strconv.Itoa(p.Status)].Content["application/problem+json"].Example = p
	}
	return nil
}

// payloadSchema returns the schema of the payload and an example.
func (r taskResource) payloadSchema() (*huma.Schema, json.RawMessage, error) {
	schema, example := &huma.Schema{}, json.RawMessage(`{"foo":"bar"}`)
	if r.taskType.Schema != nil {
		if err := json.Unmarshal(r.taskType.Schema, &schema.Extensions); err != nil {
			return nil, nil, fmt.Errorf("api: payload schema of %s: %w", r.taskType.Name, err)
		}
		example = json.RawMessage(`{}`)
		if examples, ok := schema.Extensions["examples"].([]any); ok && len(examples) > 0 {
			if b, err := json.Marshal(examples[0]); err == nil {
				example = b
			}
		}
		delete(schema.Extensions, "$schema")
		delete(schema.Extensions, "$id")
	}
	if _, found := schema.Extensions["description"]; !found {
		schema.Description = "The input of the handler: any JSON. The default is {}."
	}
	return schema, example, nil
}

// requestSchema returns the schema of a request for a task of the type.
func (r taskResource) requestSchema(payload *huma.Schema) *huma.Schema {
	timeout := durationSchema("The limit of the execution on each endpoint.", "5m")
	if r.taskType.Timeout > 0 {
		timeout.Description += fmt.Sprintf(" The maximum and default is %v.", r.taskType.Timeout)
	}
	return &huma.Schema{
		Type: huma.TypeObject, Required: []string{"identifier"}, AdditionalProperties: false,
		Properties: map[string]*huma.Schema{
			"identifier": {
				Type: huma.TypeString, MinLength: new(1), MaxLength: new(255),
				Description: "Your own name for the task, unique within the type: 1 to 255 bytes of UTF-8 without '/' and control characters. Names of the form `undo-ID-ATTEMPT` are reserved for tasks that undo others.",
			},
			"payload": payload,
			"endpoints": {
				Type: huma.TypeArray, MinItems: new(1), MaxItems: new(maxEndpoints), UniqueItems: true,
				Items:       &huma.Schema{Type: huma.TypeString, Pattern: "^[a-z0-9][a-z0-9._-]{0,127}$"},
				Description: "The endpoints that perform the task. If neither this field nor `labels` is given, every endpoint that serves the type performs the task or, if the configuration gives the task type `labels`, the known endpoints with these labels.",
			},
			"receive_timeout": durationSchema(fmt.Sprintf("How long endpoints have to receive the task. The default is %v.", r.opts.ReceiveTimeout), "30s"),
			"timeout":         timeout,
			"labels": {
				Type: huma.TypeString, Examples: []any{"role=loadbalancer,zone!=b"},
				Description: "Adds every known endpoint whose labels match all conditions: `KEY=VALUE`, `KEY!=VALUE`, `KEY` or `!KEY`, separated by commas.",
			},
			"rollout":    rolloutSchema(r.huma.OpenAPI().Components.Schemas),
			"callback":   callbackSchema(r.huma.OpenAPI().Components.Schemas),
			"not_before": {Type: huma.TypeString, Format: "date-time", Description: "When the task begins. The default is at once."},
			"dry_run": {
				Type:        huma.TypeBoolean,
				Description: "Change nothing: each endpoint validates the payload and, if its handler can, reports in its result what it would change. A dry run is a task of its own and needs an identifier of its own.",
			},
		},
	}
}

// propertiesOf returns the schemas of the fields of T.
func propertiesOf[T any](schemas huma.Registry) map[string]*huma.Schema {
	return huma.SchemaFromType(schemas, reflect.TypeFor[T]()).Properties
}

func rolloutSchema(schemas huma.Registry) *huma.Schema {
	fields, gate := propertiesOf[tasker.RolloutSpec](schemas), propertiesOf[tasker.Gate](schemas)
	refineRollout(fields)
	fields["pause_between"] = durationSchema(fields["pause_between"].Description, "30s")
	fields["order"].Default, fields["on_failure"].Default = tasker.OrderListed, tasker.OnFailureStop
	gate["url"].Format = "uri"
	gate["for"] = durationSchema(gate["for"].Description, "30s")
	fields["gate"] = &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: false, Description: fields["gate"].Description, Properties: gate,
	}
	return &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: false, Properties: fields,
		Description: "Perform the task in waves. The default is all endpoints at once.",
	}
}

// refineRollout adds to the schemas of a rollout's fields what their Go types cannot
// express.
func refineRollout(fields map[string]*huma.Schema) {
	for _, name := range []string{"canary", "max_failures"} {
		fields[name] = amountSchema(fields[name].Description)
	}
	one := amountSchema("")
	fields["batch"] = &huma.Schema{
		Description: fields["batch"].Description, AnyOf: append([]*huma.Schema{{Type: huma.TypeArray, Items: one}}, one.AnyOf...),
	}
	fields["order"].Enum = enumOf([]tasker.RolloutOrder{tasker.OrderListed, tasker.OrderName, tasker.OrderRandom})
	fields["on_failure"].Enum = enumOf([]tasker.OnFailure{tasker.OnFailureStop, tasker.OnFailurePause, tasker.OnFailureRollback})
}

// amountSchema describes a number of endpoints or a percentage.
func amountSchema(description string) *huma.Schema {
	return &huma.Schema{
		Description: description, Examples: []any{1, "25%"},
		AnyOf: []*huma.Schema{
			{Type: huma.TypeInteger, Minimum: new(float64)},
			{Type: huma.TypeString, Pattern: "^([0-9]+|[0-9]{1,2}%|100%)$", Description: "A percentage of the endpoints of the task, rounded down."},
		},
	}
}

// durationSchema describes a duration as a string or a number.
func durationSchema(description, example string) *huma.Schema {
	return &huma.Schema{
		Description: description + " A string like `90s`, `10m` or `1h30m`, or a number of seconds.",
		Examples:    []any{example},
		Extensions:  map[string]any{"type": []string{"string", "number"}},
	}
}

func callbackSchema(schemas huma.Registry) *huma.Schema {
	fields := propertiesOf[tasker.Callback](schemas)
	fields["url"].Format = "uri"
	fields["events"] = &huma.Schema{
		Type: huma.TypeArray, MinItems: new(1), MaxItems: new(len(tasker.CallbackEvents())),
		Items:       &huma.Schema{Type: huma.TypeString, Enum: enumOf(tasker.CallbackEvents())},
		Description: fields["events"].Description + " The default is all.",
	}
	return &huma.Schema{
		Description: "A URL that receives events of the task in signed calls (Standard Webhooks).",
		Examples:    []any{"https://hooks.example.net/tasker"},
		AnyOf: []*huma.Schema{
			fields["url"],
			{Type: huma.TypeObject, Required: []string{"url"}, AdditionalProperties: false, Properties: fields},
		},
	}
}

func enumOf[T ~string](values []T) []any {
	list := make([]any, len(values))
	for i, v := range values {
		list[i] = string(v)
	}
	return list
}

const exampleIdentifier = "e7bd91d0-16ad-11e2-892e-0800200c9a66"

// exampleRequest returns a request; fields are pairs of a further field and its value.
func exampleRequest(payload json.RawMessage, fields ...any) map[string]any {
	body := map[string]any{"identifier": exampleIdentifier, "payload": payload}
	for i := 0; i < len(fields); i += 2 {
		body[fmt.Sprint(fields[i])] = fields[i+1]
	}
	return body
}

func exampleTask(taskType string, payload json.RawMessage) tasker.Task {
	created := time.Date(2026, time.March, 14, 9, 26, 53, 0, time.UTC)
	return tasker.Task{
		ID: "019ceb9f-4c48-7d2e-9b0a-5f1f4d0c8a11", Identifier: exampleIdentifier, Type: taskType, Payload: payload,
		Endpoints: []string{"loadbalancer-1", "loadbalancer-2"}, Status: tasker.TaskPending, Counts: tasker.Counts{tasker.Pending: 2},
		CreatedAt: created, ReceiveTimeout: tasker.Duration(30 * time.Second), ReceiveDeadline: created.Add(30 * time.Second), Version: 1,
	}
}

// exampleResponses returns the example task after it has ended.
func exampleResponses(taskType string) TaskAndResponses {
	task := exampleTask(taskType, json.RawMessage(`{"foo":"bar"}`))
	after := func(seconds int) *time.Time { return new(task.CreatedAt.Add(time.Duration(seconds) * time.Second)) }
	task.Status, task.Counts = tasker.TaskIncomplete, tasker.Counts{tasker.Succeeded: 1, tasker.Missing: 1}
	task.FinishedAt, task.Version = after(30), 6
	return TaskAndResponses{Task: task, Responses: []tasker.Response{
		{
			Endpoint: "loadbalancer-1", Status: tasker.Succeeded, Attempt: 1, Result: json.RawMessage(`{"updated":true}`), ExitCode: new(0),
			Progress: &tasker.Progress{Percent: 100, Message: "done"},
			SentAt:   after(0), ReceivedAt: after(0), StartedAt: after(0), FinishedAt: after(12), OutputBytes: 2048, Version: 5,
		},
		{
			Endpoint: "loadbalancer-2", Status: tasker.Missing, Attempt: 1, Reason: "offline since 2026-03-14T08:00:00Z",
			Presumed: true, FinishedAt: after(30), Version: 6,
		},
	}}
}

// exampleProblems returns answers to invalid requests for a task.
func exampleProblems() []*huma.ErrorModel {
	return []*huma.ErrorModel{
		newFieldProblem(http.StatusBadRequest, "the body cannot be read", "body.payload.foo", "is given twice"),
		newProblem(http.StatusUnprocessableEntity, "body.identifier is mandatory",
			&huma.ErrorDetail{Location: "body.identifier", Message: "is mandatory"},
			&huma.ErrorDetail{Location: "body.endpoints[1]", Message: `is "loadbalancer-1", the same as endpoints[0]`}),
	}
}
