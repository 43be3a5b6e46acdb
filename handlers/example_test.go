package handlers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// Rotate is the payload of the handler below.
type Rotate struct {
	Logs []string `json:"logs" jsonschema:"the log files, by absolute paths"`
	Keep int      `json:"keep,omitempty" jsonschema:"how many old ones to keep"`
}

func ExampleTyped() {
	rotate := handlers.Typed(handlers.Info{
		Name:    "rotate-logs",
		Summary: "Rotates log files.",
		Restart: handlers.RestartRetry,
	}, func(ctx context.Context, p Rotate, call handlers.Call) (handlers.Result, error) {
		if p.Keep < 0 {
			return handlers.Result{}, handlers.Reject("payload.keep is negative")
		}
		for i, log := range p.Logs {
			if ctx.Err() != nil {
				return handlers.Result{}, context.Cause(ctx)
			}
			call.Progress(100*float64(i)/float64(len(p.Logs)), log)
			fmt.Fprintln(call.Output, "rotated", log)
		}
		return handlers.Result{Value: map[string]int{"rotated": len(p.Logs)}}, nil
	})

	mux, err := handlers.NewMux(rotate)
	if err != nil {
		panic(err)
	}
	fmt.Println(mux.Validate("rotate-logs", json.RawMessage(`{"logs": "/var/log/app.log"}`)))

	result, err := rotate.Handle(context.Background(), handlers.Call{
		Payload:  json.RawMessage(`{"logs": ["/var/log/app.log"]}`),
		Output:   os.Stdout,
		Progress: func(float64, string) {},
	})
	fmt.Println(result.Value, err)
	// Output:
	// payload.logs: must be null or an array, not a string
	// rotated /var/log/app.log
	// map[rotated:1] <nil>
}
