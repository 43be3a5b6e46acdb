// Package ping is the handler that returns its payload. It shows that an endpoint receives
// tasks and that its responses arrive.
package ping

import (
	"context"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// Name is the handler's name.
const Name = "ping"

// New returns the handler.
func New() handlers.Handler { return handler{} }

type handler struct{}

func (handler) Info() handlers.Info {
	return handlers.Info{
		Name:    Name,
		Summary: "Returns its payload, which may be any JSON value.",
		Restart: handlers.RestartRetry,
	}
}

func (handler) Handle(_ context.Context, call handlers.Call) (handlers.Result, error) {
	return handlers.Result{Value: call.Payload}, nil
}
