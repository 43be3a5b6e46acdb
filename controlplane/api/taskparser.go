package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// The bounds of a request for a task.
const (
	// maxBody has room for the largest payload and the longest list of endpoints.
	maxBody      = 4 << 20
	maxEndpoints = 10_000
	minTimeout   = 100 * time.Millisecond
	maxTimeout   = 30 * 24 * time.Hour
	maxLabels    = 1024 // bytes
	// maxSchedule bounds the time until a task begins.
	maxSchedule = 366 * 24 * time.Hour
)

// taskFields are the fields of a request for a task.
func taskFields() []string {
	return []string{"identifier", "payload", "endpoints", "labels", "receive_timeout", "timeout", "rollout", "not_before", "dry_run", "callback"}
}

// taskRequest is a valid request for a task. At first the task has only the endpoints
// that the request names; those that the selector matches are added later.
type taskRequest struct {
	task     store.NewTask
	selector tasker.Selector
}

func (r taskRequest) selection() selection {
	return selection{taskType: r.task.Type, named: r.task.Endpoints, labels: r.selector, rollout: r.task.Rollout != nil}
}

// mustResolve reports whether the endpoints of the task must be selected or ordered.
func (r taskRequest) mustResolve() bool { return r.selector != nil || r.task.Rollout != nil }

// taskParser parses one request for a task of a type.
type taskParser struct {
	bodyReader
	opts     *Options
	taskType TaskType
}

// parseTask parses the body of a request. It returns a problem that names each invalid
// field.
func parseTask(opts *Options, t TaskType, body []byte) (taskRequest, error) {
	reader, err := readBody(body)
	if err != nil {
		return taskRequest{}, err
	}
	p := taskParser{reader, opts, t}
	p.rejectUnknown(taskFields())
	request := p.parse()
	if size := len(request.task.Payload); size > tasker.MaxPayload {
		return taskRequest{}, newFieldProblem(http.StatusRequestEntityTooLarge, "the payload is too large", "body.payload",
			fmt.Sprintf("has %d bytes; at most %d are allowed", size, tasker.MaxPayload))
	}
	if len(p.errors) == 0 && t.Validate != nil {
		if err := t.Validate(request.task.Payload); err != nil {
			p.rejectPayload(err)
		}
	}
	if err := p.problem(); err != nil {
		return taskRequest{}, err
	}
	// The fingerprint is that of the request, so that the request can be repeated after the
	// default has changed.
	request.task.Fingerprint, err = p.fingerprint(request.task)
	if request.task.Endpoints == nil && request.selector == nil {
		request.task.Labels, request.selector = t.Labels, t.Selector
	}
	return request, err
}

func (p *taskParser) parse() taskRequest {
	labels, selector := p.labels()
	return taskRequest{selector: selector, task: store.NewTask{
		Type:           p.taskType.Name,
		Identifier:     p.identifier(),
		Payload:        p.payload(),
		Endpoints:      p.endpoints(),
		Labels:         labels,
		ReceiveTimeout: p.duration("receive_timeout", p.opts.ReceiveTimeout, maxTimeout),
		Timeout:        p.timeout(),
		Action:         p.action(),
		NotBefore:      p.notBefore(),
		Rollout:        p.rollout(),
		Callback:       p.callback(),
	}}
}

func (p *taskParser) identifier() string {
	raw, found := p.fields["identifier"]
	var id string
	switch {
	case !found:
		p.reject("identifier", "is mandatory")
	case jsonType(raw) != "a string":
		p.reject("identifier", "is %s, but must be a string", jsonType(raw))
	default:
		_ = json.Unmarshal(raw, &id)
		if err := tasker.ValidateNewIdentifier(id); err != nil {
			p.reject("identifier", "is not valid: %v", err)
		}
	}
	return id
}

// payload returns the JSON of the payload without white space.
func (p *taskParser) payload() []byte {
	raw, found := p.fields["payload"]
	if !found {
		return []byte("{}")
	}
	var b bytes.Buffer
	_ = json.Compact(&b, raw) // it is valid
	return b.Bytes()
}

func (p *taskParser) endpoints() []string {
	raw, found := p.field("endpoints")
	if !found {
		return nil
	}
	var list []json.RawMessage
	switch {
	case json.Unmarshal(raw, &list) != nil:
		p.reject("endpoints", "is %s, but must be a list of names", jsonType(raw))
		return nil
	case len(list) == 0:
		p.reject("endpoints", "is empty; leave it out, or name at least one endpoint")
		return nil
	case len(list) > maxEndpoints:
		p.reject("endpoints", "has %d names; at most %d are allowed", len(list), maxEndpoints)
		return nil
	}
	names := make([]string, len(list))
	first := make(map[string]int, len(list))
	for i, raw := range list {
		field := fmt.Sprintf("endpoints[%d]", i)
		if jsonType(raw) != "a string" {
			p.reject(field, "is %s, but must be a name", jsonType(raw))
			continue
		}
		_ = json.Unmarshal(raw, &names[i])
		if err := tasker.ValidateEndpoint(names[i]); err != nil {
			p.reject(field, "is not valid: %v", err)
		} else if j, duplicate := first[names[i]]; duplicate {
			p.reject(field, "is %q, the same as endpoints[%d]", names[i], j)
		} else {
			first[names[i]] = i
		}
	}
	return names
}

// timeout returns the timeout of the type, or a lower one.
func (p *taskParser) timeout() time.Duration {
	maximum := p.taskType.Timeout
	if maximum == 0 {
		maximum = maxTimeout
	}
	return p.duration("timeout", p.taskType.Timeout, maximum)
}

// duration returns the duration in a field, or fallback if it is absent or invalid.
func (p *taskParser) duration(field string, fallback, maximum time.Duration) time.Duration {
	raw, found := p.field(field)
	if !found {
		return fallback
	}
	if t := jsonType(raw); t != "a string" && t != "a number" {
		p.reject(field, "is %s, but must be a string like 30s or 1h30m, or a number of seconds", t)
		return fallback
	}
	var d tasker.Duration
	if err := json.Unmarshal(raw, &d); err != nil {
		p.reject(field, "is not valid: %v", err)
		return fallback
	}
	if d.D() < minTimeout || d.D() > maximum {
		p.reject(field, "is %v, but must be between %v and %v", d, minTimeout, maximum)
	}
	return d.D()
}

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

// action returns DryRun if the field dry_run is true, otherwise Perform.
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

// notBefore returns when the task begins; nil means at once.
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

// callback returns the callback of the task; nil means none. The field is a URL, or an
// object with a URL and the events that the URL receives.
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
		if raw, found := fields["events"]; found && jsonType(raw) == "null" {
			delete(fields, "events") // package client sends null for all events
		}
		p.decodeFields("callback", fields, map[string]any{"url": &c.URL, "events": &c.Events})
		urlField = "callback.url"
	}
	if err := p.opts.CheckCallback(c.URL); err != nil {
		p.reject(urlField, "%v", err)
	}
	c.Events = p.callbackEvents(c.Events)
	return c
}

// callbackEvents returns the requested events without duplicates, in the order of
// tasker.CallbackEvents, so that equal requests have equal fingerprints. If nil is
// requested, it returns all events.
func (p *taskParser) callbackEvents(requested []tasker.CallbackEvent) []tasker.CallbackEvent {
	if requested == nil {
		return tasker.CallbackEvents()
	}
	if len(requested) == 0 {
		p.reject("callback.events", "is empty; leave it out to receive all events")
	}
	for i, e := range requested {
		if msg := tasker.CheckOneOf(e, tasker.CallbackEvents()...); msg != "" {
			p.reject(fmt.Sprintf("callback.events[%d]", i), "%s", msg)
		}
	}
	return slices.DeleteFunc(tasker.CallbackEvents(), func(e tasker.CallbackEvent) bool { return !slices.Contains(requested, e) })
}
