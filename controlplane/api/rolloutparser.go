package api

import (
	"encoding/json"

	"github.com/MatthiasWiesner/tasker"
)

// maxPromQL bounds the query of a gate, in bytes.
const maxPromQL = 4096

// rollout returns the rollout of the task; nil means all endpoints at once.
func (p *taskParser) rollout() *tasker.RolloutSpec {
	raw, found := p.field("rollout")
	if !found {
		return nil
	}
	fields, ok := p.object("rollout", raw)
	if !ok {
		return nil
	}
	s := &tasker.RolloutSpec{}
	p.decodeFields("rollout", fields, map[string]any{
		"canary": &s.Canary, "batch": &s.Batch, "max_failures": &s.MaxFailures, "pause_between": &s.PauseBetween,
		"pause_after_canary": &s.PauseAfterCanary, "order": &s.Order, "on_failure": &s.OnFailure, "exclusive": &s.Exclusive,
		"gate": new(json.RawMessage), // p.gate parses it
	})
	if raw, found := fields["gate"]; found && jsonType(raw) != "null" { // decodeFields rejects null
		s.Gate = p.gate(raw)
	}
	s.SetDefaults()
	s.Validate(func(field, message string) { p.reject("rollout."+field, "%s", message) })
	if s.OnFailure == tasker.OnFailureRollback {
		if reason := p.taskType.cannotUndoReason(p.payload()); reason != "" {
			p.reject("rollout.on_failure", "is rollback, but %s; use stop or pause", reason)
		}
	}
	return s
}

func (p *taskParser) gate(raw json.RawMessage) *tasker.Gate {
	fields, ok := p.object("rollout.gate", raw)
	if !ok {
		return nil
	}
	g := &tasker.Gate{}
	p.decodeFields("rollout.gate", fields, map[string]any{"promql": &g.PromQL, "url": &g.URL, "for": &g.For})
	switch {
	case (g.PromQL == "") == (g.URL == ""): // RolloutSpec.Validate rejects this
	case g.URL != "":
		if err := p.opts.CheckGate(g.URL); err != nil {
			p.reject("rollout.gate.url", "%v", err)
		}
	case len(g.PromQL) > maxPromQL:
		p.reject("rollout.gate.promql", "has %d bytes; at most %d are allowed", len(g.PromQL), maxPromQL)
	case !p.opts.PromQL:
		p.reject("rollout.gate.promql", "cannot be checked: the configuration of the control plane has no prometheus.uri")
	}
	return g
}
