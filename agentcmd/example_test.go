package agentcmd_test

import (
	"context"
	"fmt"
	"os"

	"github.com/MatthiasWiesner/tasker/agentcmd"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// This program is an agent with one more handler, greet. The payload of its tasks is, for
// example, {"name": "Ada"}.
func ExampleMain() {
	type payload struct {
		Name string `json:"name" jsonschema:"whom to greet"`
	}
	greet := handlers.Typed(handlers.Info{
		Name:    "greet",
		Summary: "Returns a greeting.",
		Restart: handlers.RestartRetry, // if the agent is restarted, greet again
	}, func(_ context.Context, p payload, call handlers.Call) (handlers.Result, error) {
		if p.Name == "" {
			return handlers.Result{}, handlers.Reject("name is empty")
		}
		greeting := "Hello, " + p.Name
		fmt.Fprintln(call.Output, greeting)
		return handlers.Result{Value: map[string]string{"greeting": greeting}}, nil
	})

	os.Exit(agentcmd.Main("1.0", greet))
}
