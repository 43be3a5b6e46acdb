package handlers

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Mux finds handlers by name and checks payloads. It does not change once made,
// and is safe for concurrent use.
type Mux struct {
	handlers map[string]Handler
	schemas  map[string]*Schema
}

// ErrUnknown: there is no handler of that name.
var ErrUnknown = errors.New("no such handler")

// NewMux makes a Mux of handlers whose names differ and whose schemas compile.
func NewMux(hs ...Handler) (*Mux, error) {
	m := &Mux{handlers: make(map[string]Handler, len(hs)), schemas: make(map[string]*Schema, len(hs))}
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
			return nil, fmt.Errorf("handler %q is detached, and then its restart contract has to be %q", info.Name, RestartResume)
		}
		schema, err := CompileSchema(info.Schema)
		if err != nil {
			return nil, fmt.Errorf("handler %q: %w", info.Name, err)
		}
		m.handlers[info.Name], m.schemas[info.Name] = h, schema
	}
	return m, nil
}

// Lookup returns the handler of that name.
func (m *Mux) Lookup(name string) (Handler, bool) {
	h, ok := m.handlers[name]
	return h, ok
}

// Names lists the handlers' names, sorted.
func (m *Mux) Names() []string { return slices.Sorted(maps.Keys(m.handlers)) }

// Scripts lists the task types for which handlers have something of their own
// to run now, sorted.
func (m *Mux) Scripts() []string {
	scripts := []string{}
	for _, h := range m.handlers {
		if l, ok := h.(interface{ Scripts() []string }); ok {
			scripts = append(scripts, l.Scripts()...)
		}
	}
	slices.Sort(scripts)
	return slices.Compact(scripts)
}

// Restart returns the restart contract of the handler of that name for a task
// type. A handler may make it depend on the type, with a method
// RestartOf(taskType string) Restart; otherwise its Info says it.
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

// Detached says whether the work of the handler of that name goes on without the
// agent; see Info.Detached.
func (m *Mux) Detached(name string) bool {
	h, ok := m.handlers[name]
	return ok && h.Info().Detached
}

// Validate checks a payload against the schema of the handler of that name. It
// returns nil, ErrUnknown (wrapped) or a *PayloadError.
func (m *Mux) Validate(name string, payload json.RawMessage) error {
	schema, ok := m.schemas[name]
	if !ok {
		return fmt.Errorf("handler %q: %w", name, ErrUnknown)
	}
	return schema.Validate(payload)
}
