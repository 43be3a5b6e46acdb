// Command admin-go creates a task, follows it, and prints the outcome of every server.
//
//	admin-go TYPE IDENTIFIER PAYLOAD ENDPOINT...
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "admin-go:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) < 4 {
		return errors.New("usage: admin-go TYPE IDENTIFIER PAYLOAD ENDPOINT [ENDPOINT]")
	}
	c, err := client.New(client.Options{
		URL:       cmp.Or(os.Getenv("TASKER_URL"), "http://127.0.0.1:8888"),
		Token:     os.Getenv("TASKER_TOKEN"),
		UserAgent: "admin-go",
	})
	if err != nil {
		return err
	}
	defer c.Close()

	// A repeated request with the same identifier creates no second task, so it is safe to
	// run this program again after an error.
	task, err := c.Create(ctx, args[0], client.Request{
		Identifier: args[1], Payload: json.RawMessage(args[2]), Endpoints: args[3:],
	})
	if err != nil {
		return fmt.Errorf("create the task: %w", err)
	}
	if err := c.Watch(ctx, task.Type, task.ID, func(client.State) {}); err != nil {
		return fmt.Errorf("follow the task: %w", err)
	}
	state, err := c.Get(ctx, task.Type, task.ID)
	if err != nil {
		return fmt.Errorf("get the task: %w", err)
	}
	for _, r := range state.Responses {
		fmt.Println(r.Endpoint, r.Status, cmp.Or(r.Error, r.Reason, string(r.Result)))
	}
	if state.Task.Status != tasker.TaskSucceeded {
		return fmt.Errorf("the task is %s", state.Task.Status)
	}
	return nil
}
