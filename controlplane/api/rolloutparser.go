package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

const (
	// maxLabels and maxPromQL bound texts, in bytes.
	maxLabels = 1024
	maxPromQL = 4096
	// maxSchedule bounds the time until a task begins.
	maxSchedule = 366 * 24 * time.Hour
)

func (p *taskParser) labels() (string, tasker.Selector) {
	text, found := p.text("labels", "a selector like role=loadbalancer,zone!=b")
	if !found {
		return "", nil
	}
	if len(text) > maxLabels {
		p.reject("labels", "has %d bytes; at most %d are allowed", len(text), maxLabels)
		return "", nil
	}
	s, err := tasker.ParseSelector(text)
	if err != nil {
		p.reject("labels", "is not valid: %v", err)
	}
	return text, s
}

// action returns DryRun if the field dry_run is true.
func (p *taskParser) action() tasker.Action {
	raw, found := p.field("dry_run")
	var dryRun bool
	if found && json.Unmarshal(raw, &dryRun) != nil {
		p.reject("dry_run", "is %s, but must be true or false", jsonType(raw))
	}
	if dryRun {
		return tasker.DryRun
	}
	return tasker.Perform
}

// notBefore returns when the task begins; nil is at once.
func (p *taskParser) notBefore() *time.Time {
	text, found := p.text("not_before", "a time like 2026-01-02T03:04:05Z")
	if !found {
		return nil
	}
	at, err := time.Parse(time.RFC3339, text)
	switch {
	case err != nil:
		p.reject("not_before", "is not a time of RFC 3339: write it like 2026-01-02T03:04:05Z or 2026-01-02T03:04:05+01:00")
	case time.Until(at) > maxSchedule:
		p.reject("not_before", "is more than %d days ahead", int(maxSchedule.Hours())/24)
	default:
		at = at.UTC().Truncate(time.Microsecond)
		return &at
	}
	return nil
}

// rollout returns the waves of the task; nil is all endpoints at once.
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
		"gate": new(json.RawMessage),
	})
	if raw, found := fields["gate"]; found && jsonType(raw) != "null" {
		s.Gate = p.gate(raw)
	}
	s.SetDefaults()
	s.Validate(func(field, message string) { p.reject("rollout."+field, "%s", message) })
	if s.OnFailure == tasker.OnFailureRollback {
		if reason := p.taskType.cannotUndo(p.payload()); reason != "" {
			p.reject("rollout.on_failure", "is rollback, but %s; possible are stop and pause", reason)
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
		p.reject("rollout.gate.promql", "cannot be checked: the configuration of the control plane names no Prometheus (prometheus.uri)")
	}
	return g
}

// callback returns the URL that receives events of the task; nil is none. The field is a
// URL, or an object with a URL and the events it receives.
func (p *taskParser) callback() *tasker.Callback {
	raw, found := p.field("callback")
	if !found {
		return nil
	}
	c, urlField := &tasker.Callback{}, "callback"
	if json.Unmarshal(raw, &c.URL) != nil {
		fields, ok := p.object("callback", raw)
		if !ok {
			return nil
		}
		p.decodeFields("callback", fields, map[string]any{"url": &c.URL, "events": &c.Events})
		urlField = "callback.url"
	}
	if err := p.opts.CheckCallback(c.URL); err != nil {
		p.reject(urlField, "%v", err)
	}
	for i, e := range c.Events {
		if msg := tasker.CheckOneOf(e, tasker.CallbackEvents()...); msg != "" {
			p.reject(fmt.Sprintf("callback.events[%d]", i), "%s", msg)
		}
	}
	switch requested := c.Events; {
	case requested == nil:
		c.Events = tasker.CallbackEvents()
	case len(requested) == 0:
		p.reject("callback.events", "is empty; leave it out to receive all events")
	default:
		c.Events = slices.DeleteFunc(tasker.CallbackEvents(), func(e tasker.CallbackEvent) bool { return !slices.Contains(requested, e) })
	}
	return c
}
