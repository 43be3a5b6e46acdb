package api

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

const (
	// maxLabels and maxPromQL bound texts, in bytes.
	maxLabels = 1024
	maxPromQL = 4096
	// maxAhead is how far ahead a task may be scheduled.
	maxAhead = 366 * 24 * time.Hour
)

// selector reads the field labels.
func (q *request) selector() (string, tasker.Selector) {
	raw, found := q.given("labels")
	if !found {
		return "", nil
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		q.fault("labels", "is %s, but must be a selector like role=loadbalancer,zone!=b", kind(raw))
		return "", nil
	}
	if len(text) > maxLabels {
		q.fault("labels", "has %d bytes; at most %d are allowed", len(text), maxLabels)
		return "", nil
	}
	s, err := tasker.ParseSelector(text)
	if err != nil {
		q.fault("labels", "is not valid: %v", err)
	}
	return text, s
}

// action is a plan for a dry run.
func (q *request) action() tasker.Action {
	raw, found := q.given("dry_run")
	var dry bool
	if found && json.Unmarshal(raw, &dry) != nil {
		q.fault("dry_run", "is %s, but must be true or false", kind(raw))
	}
	if dry {
		return tasker.Plan
	}
	return tasker.Perform
}

// notBefore is when the task begins; nil is at once.
func (q *request) notBefore() *time.Time {
	raw, found := q.given("not_before")
	if !found {
		return nil
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		q.fault("not_before", "is %s, but must be a time like 2026-01-02T03:04:05Z", kind(raw))
		return nil
	}
	at, err := time.Parse(time.RFC3339, text)
	switch {
	case err != nil:
		q.fault("not_before", "is no time of RFC 3339: write it like 2026-01-02T03:04:05Z or 2026-01-02T03:04:05+01:00")
	case time.Until(at) > maxAhead:
		q.fault("not_before", "is more than %d days ahead", int(maxAhead.Hours())/24)
	default:
		at = at.UTC().Truncate(time.Microsecond)
		return &at
	}
	return nil
}

// rollout reads how the task is performed in waves; nil is all at once.
func (q *request) rollout(a *API, t Type) *tasker.RolloutSpec {
	raw, found := q.given("rollout")
	if !found {
		return nil
	}
	fields, ok := q.object("rollout", raw)
	if !ok {
		return nil
	}
	s := &tasker.RolloutSpec{}
	q.fields("rollout", fields, map[string]any{
		"canary": &s.Canary, "batch": &s.Batch, "max_failures": &s.MaxFailures, "pause_between": &s.PauseBetween,
		"pause_after_canary": &s.PauseAfterCanary, "order": &s.Order, "on_failure": &s.OnFailure, "exclusive": &s.Exclusive,
		"gate": new(json.RawMessage),
	})
	if raw, found := fields["gate"]; found && kind(raw) != "null" {
		s.Gate = q.gate(a, raw)
	}
	s.Defaults()
	s.Faults(func(field, message string) { q.fault("rollout."+field, "%s", message) })
	if s.OnFailure == tasker.OnFailureRollback {
		if why := t.cannotUndo(q.payload()); why != "" {
			q.fault("rollout.on_failure", "is rollback, but %s; possible are stop and pause", why)
		}
	}
	return s
}

func (q *request) gate(a *API, raw json.RawMessage) *tasker.Gate {
	fields, ok := q.object("rollout.gate", raw)
	if !ok {
		return nil
	}
	g := &tasker.Gate{}
	q.fields("rollout.gate", fields, map[string]any{"promql": &g.PromQL, "url": &g.URL, "for": &g.For})
	switch {
	case (g.PromQL == "") == (g.URL == ""): // which is a fault of the rollout
	case g.URL != "":
		if err := a.checkGate(g.URL); err != nil {
			q.fault("rollout.gate.url", "%v", err)
		}
	case len(g.PromQL) > maxPromQL:
		q.fault("rollout.gate.promql", "has %d bytes; at most %d are allowed", len(g.PromQL), maxPromQL)
	case !a.promQL:
		q.fault("rollout.gate.promql", "cannot be asked: the control plane knows no Prometheus (prometheus.uri in its configuration)")
	}
	return g
}

// object reads an object's fields.
func (q *request) object(at string, raw json.RawMessage) (map[string]json.RawMessage, bool) {
	var fields map[string]json.RawMessage
	if kind(raw) != "an object" || json.Unmarshal(raw, &fields) != nil {
		q.fault(at, "is %s, but must be an object", kind(raw))
		return nil, false
	}
	return fields, true
}

// fields reads each field into where it belongs; null counts as left out.
func (q *request) fields(at string, given map[string]json.RawMessage, into map[string]any) {
	for name, raw := range given {
		target, known := into[name]
		switch {
		case !known:
			q.fault(at+"."+cut(name), "is not known; known are %s", strings.Join(slices.Sorted(maps.Keys(into)), ", "))
		case kind(raw) == "null":
		default:
			if err := json.Unmarshal(raw, target); err != nil {
				q.fault(at+"."+name, "is not valid: %s", unjson(err))
			}
		}
	}
}

// unjson says in a caller's words what the decoder says in Go's.
func unjson(err error) string {
	if e, ok := err.(*json.UnmarshalTypeError); ok { //nolint:errorlint // as the decoder returns it
		return fmt.Sprintf("it is a %s, but must be a %s", e.Value, strings.NewReplacer("bool", "boolean").Replace(e.Type.Kind().String()))
	}
	return err.Error()
}

// resolve adds to the endpoints those that are selected, and arranges them for a
// rollout.
func (r taskRoutes) resolve(ctx context.Context, n *store.NewTask, s tasker.Selector) error {
	chosen := r.selection(n, s)
	if chosen.selective() {
		found, err := r.store.Select(ctx, chosen.selects)
		if err != nil {
			return r.failure(ctx, err, "")
		}
		n.Endpoints = chosen.join(found)
	}
	if err := r.bounded(n, s); err != nil {
		return err
	}
	if n.Rollout != nil {
		n.Rollout.Order.Arrange(n.Endpoints, rand.Shuffle)
	}
	return nil
}

func (r taskRoutes) selection(n *store.NewTask, s tasker.Selector) selection {
	return selection{taskType: r.Name, named: n.Endpoints, labels: s, rollout: n.Rollout != nil}
}

// bounded refuses a task that is for nobody, or for too many.
func (r taskRoutes) bounded(n *store.NewTask, s tasker.Selector) error {
	field := "labels"
	if s == nil {
		field = "endpoints"
	}
	switch {
	case n.Endpoints == nil:
		return problem(http.StatusUnprocessableEntity, "no endpoint is known that the task could be for", &huma.ErrorDetail{
			Location: "body." + field, Message: "selects no endpoint that is known; GET /endpoints shows them with their labels",
		})
	case len(n.Endpoints) > maxEndpoints:
		return problem(http.StatusUnprocessableEntity, "the task is for too many endpoints", &huma.ErrorDetail{
			Location: "body." + field, Message: fmt.Sprintf("comes to %d endpoints; at most %d are allowed", len(n.Endpoints), maxEndpoints),
		})
	}
	return nil
}
