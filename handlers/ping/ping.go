// Package ping is the handler that returns its payload: it shows that an
// endpoint takes tasks and that its answers arrive.
package ping

import (
	"context"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// Name is the handler's name.
const Name = "ping"

// New makes the handler.
func New() handlers.Handler { return handler{} }

type handler struct{}

func (handler) Info() handlers.Info {
	return handlers.Info{
		Name:    Name,
		Summary: "Returns its payload, whatever it is.",
		Restart: handlers.RestartRetry,
	}
}

func (handler) Handle(_ context.Context, call handlers.Call) (handlers.Result, error) {
	return handlers.Result{Value: call.Payload}, nil
}
