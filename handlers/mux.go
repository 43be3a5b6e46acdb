package handlers

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Mux finds handlers by name and checks payloads. It is immutable and safe for concurrent
// use.
type Mux struct {
	handlers map[string]Handler
	validate map[string]func(json.RawMessage) error
}

// ErrUnknown is returned for a name that no handler has.
var ErrUnknown = errors.New("no such handler")

// NewMux returns a Mux of the handlers. It returns an error if two handlers have the same
// name or if a description is invalid.
func NewMux(hs ...Handler) (*Mux, error) {
	m := &Mux{handlers: make(map[string]Handler, len(hs)), validate: make(map[string]func(json.RawMessage) error, len(hs))}
	for _, h := range hs {
		info := h.Info()
		if info.Name == "" {
			return nil, fmt.Errorf("a handler (%T) has no name", h)
		}
		if _, ok := m.handlers[info.Name]; ok {
			return nil, fmt.Errorf("two handlers are named %q", info.Name)
		}
		switch info.Restart {
		case "", RestartNever, RestartRetry, RestartResume:
		default:
			return nil, fmt.Errorf("handler %q: unknown restart contract %q", info.Name, info.Restart)
		}
		if info.Detached && info.Restart != RestartResume {
			return nil, fmt.Errorf("handler %q is detached, so its restart contract must be %q", info.Name, RestartResume)
		}
		validate, err := info.Validator()
		if err != nil {
			return nil, err
		}
		m.handlers[info.Name], m.validate[info.Name] = h, validate
	}
	return m, nil
}

// Lookup returns the handler with that name.
func (m *Mux) Lookup(name string) (Handler, bool) {
	h, ok := m.handlers[name]
	return h, ok
}

// Names returns the names of the handlers, sorted.
func (m *Mux) Names() []string { return slices.Sorted(maps.Keys(m.handlers)) }

// Scripts returns the task types for which a handler has a script now, sorted. A handler
// reports them with an optional method Scripts() []string.
func (m *Mux) Scripts() []string {
	scripts := []string{}
	for _, h := range m.handlers {
		if lister, ok := h.(interface{ Scripts() []string }); ok {
			scripts = append(scripts, lister.Scripts()...)
		}
	}
	slices.Sort(scripts)
	return slices.Compact(scripts)
}

// Restart returns the restart contract of a handler for a task type. It comes from the
// handler's optional method RestartOf(taskType string) Restart, or else from its Info.
func (m *Mux) Restart(name, taskType string) Restart {
	h, ok := m.handlers[name]
	if !ok {
		return RestartNever
	}
	restart := h.Info().Restart
	if r, ok := h.(interface{ RestartOf(taskType string) Restart }); ok {
		restart = r.RestartOf(taskType)
	}
	if restart == "" {
		return RestartNever
	}
	return restart
}

// Detached reports whether a handler's work continues without the agent; see
// Info.Detached.
func (m *Mux) Detached(name string) bool {
	h, ok := m.handlers[name]
	return ok && h.Info().Detached
}

// Validate checks a payload against the schema and the check of a handler. It returns nil, an error
// that wraps ErrUnknown, or a *PayloadError.
func (m *Mux) Validate(name string, payload json.RawMessage) error {
	validate, ok := m.validate[name]
	if !ok {
		return fmt.Errorf("handler %q: %w", name, ErrUnknown)
	}
	return validate(payload)
}
