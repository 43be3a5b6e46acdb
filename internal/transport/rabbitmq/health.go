package rabbitmq

import (
	"sync"

	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// health combines the states of several components, for example connections, into one
// state for the observer. It is nil if every component works.
type health struct {
	observer   transport.Observer
	components []string

	mu       sync.Mutex
	states   map[string]error // nil: works; a component without a state has no entry
	reported bool
	last     error
}

func newHealth(observer transport.Observer, components ...string) *health {
	return &health{observer: observer, components: components, states: map[string]error{}}
}

// setter returns a function that sets the state of one component.
func (h *health) setter(component string) func(error) {
	return func(err error) { h.set(component, err) }
}

func (h *health) set(component string, err error) {
	if h.observer == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.states[component] = err
	state, complete := error(nil), true
	for _, c := range h.components {
		err, ok := h.states[c]
		complete = complete && ok
		if state == nil {
			state = err
		}
	}
	if state == nil && (!complete || h.reported && h.last == nil) {
		return
	}
	h.reported, h.last = true, state
	h.observer(state)
}
