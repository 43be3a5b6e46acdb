package api

import (
	"encoding/json"

	"github.com/danielgtaylor/huma/v2"

	"github.com/MatthiasWiesner/tasker"
)

// rolloutTexts describe the fields of a rollout.
func rolloutTexts() map[string]string {
	return map[string]string{
		"canary": "The size of a first wave; 0 is none.",
		"batch":  "The sizes of the waves after it, in their order; the last one holds for all further ones.",
		"max_failures": "How many of all endpoints of the task may fail: end as anything but `succeeded` or `skipped`, `missing` included. " +
			"With one more the rollout does what `on_failure` says.",
		"pause_between":      "The time from the end of a wave to what comes next.",
		"pause_after_canary": "Pause when the canary has ended, until the rollout is resumed.",
		"order":              "`listed`: as named, then those found by labels, by name; `name`; or `random`.",
		"gate":               "What must hold between two waves; else the rollout pauses.",
		"on_failure":         "`stop`: what runs may finish, the rest is skipped; `pause`: a person decides; `rollback`: stop, then undo where something was changed; 422 if the handler cannot undo this payload.",
		"exclusive":          "No other rollout is performed on one of its endpoints meanwhile: the later one waits.",
		"state":              "Where the rollout stands.",
		"reason":             "Why it stands there, for people.",
		"waves":              "The sizes of the waves, the canary first.",
		"wave":               "How many of the waves have begun.",
		"until":              "When a state that goes by time ends.",
		"rollback":           "The id of the task that undoes this one.",
	}
}

// amountSchema describes a number of endpoints or a percentage.
func amountSchema(text string) *huma.Schema {
	return &huma.Schema{
		Description: text, Examples: []any{1, "25%"},
		AnyOf: []*huma.Schema{
			{Type: huma.TypeInteger, Minimum: new(float64)},
			{Type: huma.TypeString, Pattern: "^([0-9]+|[0-9]{1,2}%|100%)$", Description: "A percentage of all endpoints of the task, rounded down."},
		},
	}
}

func amountsSchema(text string) *huma.Schema {
	one := amountSchema("")
	return &huma.Schema{Description: text, AnyOf: append([]*huma.Schema{{Type: huma.TypeArray, Items: one}}, one.AnyOf...)}
}

// describeRollout describes how a task of this type is asked to be performed in
// waves.
func (r taskRoutes) describeRollout() *huma.Schema {
	texts := rolloutTexts()
	s := &huma.Schema{
		Type: huma.TypeObject, Nullable: true, AdditionalProperties: false, Description: "Perform the task in waves. Left out: all at once.",
		Properties: map[string]*huma.Schema{
			"canary": amountSchema(texts["canary"]), "batch": amountsSchema(texts["batch"]), "max_failures": amountSchema(texts["max_failures"]),
			"pause_between":      duration(texts["pause_between"], "30s"),
			"pause_after_canary": {Type: huma.TypeBoolean, Description: texts["pause_after_canary"]},
			"order":              {Type: huma.TypeString, Description: texts["order"], Enum: orders(), Default: tasker.OrderListed},
			"gate": {
				Type: huma.TypeObject, Nullable: true, AdditionalProperties: false, Description: texts["gate"],
				Properties: map[string]*huma.Schema{
					"promql": {Type: huma.TypeString, Description: fieldTexts()["Gate"]["promql"]},
					"url":    {Type: huma.TypeString, Format: "uri", Description: fieldTexts()["Gate"]["url"]},
					"for":    duration(fieldTexts()["Gate"]["for"], "30s"),
				},
			},
			"on_failure": {Type: huma.TypeString, Description: texts["on_failure"], Enum: onFailures(), Default: tasker.OnFailureStop},
			"exclusive":  {Type: huma.TypeBoolean, Description: texts["exclusive"]},
		},
	}
	return s
}

func orders() []any {
	return anyOf([]tasker.RolloutOrder{tasker.OrderListed, tasker.OrderName, tasker.OrderRandom})
}

func onFailures() []any {
	return anyOf([]tasker.OnFailure{tasker.OnFailureStop, tasker.OnFailurePause, tasker.OnFailureRollback})
}

// explainRollout says of the schemas of answers what their Go types do not.
func explainRollout(schemas map[string]*huma.Schema) {
	for _, name := range []string{"Rollout", "RolloutSpec"} {
		p := schemas[name].Properties
		p["canary"], p["max_failures"] = amountSchema(p["canary"].Description), amountSchema(p["max_failures"].Description)
		p["batch"] = amountsSchema(p["batch"].Description)
		p["order"].Enum, p["on_failure"].Enum = orders(), onFailures()
	}
	schemas["Rollout"].Properties["state"].Enum = anyOf(tasker.RolloutStates())
	delete(schemas, "Amount")
}

func exampleRollout(payload json.RawMessage) map[string]any {
	return map[string]any{
		"identifier": exampleIdentifier, "payload": payload, "labels": "role=loadbalancer",
		"rollout": map[string]any{"canary": 1, "batch": "25%", "max_failures": 1, "pause_between": "30s"},
	}
}
