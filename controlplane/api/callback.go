package api

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/MatthiasWiesner/tasker"
)

// callback reads who is told what becomes of the task: a URL, or an object that
// says for which events it is called. nil is nobody.
func (q *request) callback(check func(url string) error) *tasker.Callback {
	raw, found := q.given("callback")
	if !found {
		return nil
	}
	c, at := &tasker.Callback{}, "callback"
	if json.Unmarshal(raw, &c.URL) != nil {
		fields, ok := q.object("callback", raw)
		if !ok {
			return nil
		}
		q.fields("callback", fields, map[string]any{"url": &c.URL, "events": &c.Events})
		at = "callback.url"
	}
	if err := check(c.URL); err != nil {
		q.fault(at, "%v", err)
	}
	for i, e := range c.Events {
		if msg := tasker.NoneOf(e, tasker.CallbackEvents()...); msg != "" {
			q.fault(fmt.Sprintf("callback.events[%d]", i), "%s", msg)
		}
	}
	switch asked := c.Events; {
	case asked == nil:
		c.Events = tasker.CallbackEvents()
	case len(asked) == 0:
		q.fault("callback.events", "is empty; leave it out to be told of all")
	default:
		c.Events = slices.DeleteFunc(tasker.CallbackEvents(), func(e tasker.CallbackEvent) bool { return !slices.Contains(asked, e) })
	}
	return c
}

// callbackTexts describe the fields of callbacks, by schema and field.
func callbackTexts() map[string]map[string]string {
	return map[string]map[string]string{
		"Callback": {
			"url":    "What is called: https, or http to the control plane's own machine, unless its configuration says otherwise.",
			"events": "`finished`: every response has ended (again, if that changes); `incomplete`: an endpoint has not received the task; `paused`: the rollout has paused.",
		},
		"Delivery": {
			"id":              "The `webhook-id` of the call.",
			"event":           "What happened.",
			"at":              "When it happened.",
			"status":          "`waiting` for its next attempt, `delivered`, or `given_up`.",
			"attempts":        "How often the URL was called, an attempt under way included.",
			"next_attempt_at": "When it is called next.",
			"delivered_at":    "When it answered 2xx.",
			"last_error":      "Why the last attempt that failed did.",
		},
	}
}

// describeCallback describes how it is asked for.
func describeCallback() *huma.Schema {
	texts := callbackTexts()["Callback"]
	one, most := 1, len(tasker.CallbackEvents())
	url := func() *huma.Schema {
		return &huma.Schema{Type: huma.TypeString, Format: "uri", Description: texts["url"]}
	}
	return &huma.Schema{
		Description: "A URL that is told, by a signed call (Standard Webhooks), what becomes of the task.",
		Examples:    []any{"https://hooks.example.net/tasker"},
		AnyOf: []*huma.Schema{url(), {
			Type: huma.TypeObject, Required: []string{"url"}, AdditionalProperties: false,
			Properties: map[string]*huma.Schema{"url": url(), "events": {
				Type: huma.TypeArray, Nullable: true, MinItems: &one, MaxItems: &most,
				Items:       &huma.Schema{Type: huma.TypeString, Enum: anyOf(tasker.CallbackEvents())},
				Description: texts["events"] + " Left out: all.",
			}},
		}, {Type: "null"}},
	}
}

// explainCallbacks says of the schemas of answers what their Go types do not.
func explainCallbacks(schemas map[string]*huma.Schema) {
	schemas["Callback"].Properties["events"].Items = &huma.Schema{Type: huma.TypeString, Enum: anyOf(tasker.CallbackEvents())}
	d := schemas["Delivery"].Properties
	d["event"].Enum, d["status"].Enum = anyOf(tasker.CallbackEvents()), anyOf(tasker.DeliveryStatuses())
}
