package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/MatthiasWiesner/tasker/client"
)

// Create a task on two servers. Creating it again with the same identifier returns the
// same task, so a program can repeat the call after an error.
func ExampleClient_Create() {
	server, c := startServer() // client.New(client.Options{URL: …, Token: …})
	defer server.stop()
	defer c.Close()
	ctx := context.Background()

	request := client.Request{
		Identifier: "hello-1",
		Payload:    json.RawMessage(`{"foo": "bar"}`),
		Endpoints:  []string{"web-1", "web-2"},
	}
	task, err := c.Create(ctx, "ping", request)
	if err != nil {
		fmt.Println(err)
		return
	}
	again, err := c.Create(ctx, "ping", request)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(task.Identifier, task.Status)
	fmt.Println("same task:", again.ID == task.ID)
	// Output:
	// hello-1 pending
	// same task: true
}

// Watch a task until it has finished.
func ExampleClient_Watch() {
	server, c := startServer()
	defer server.stop()
	defer c.Close()
	ctx := context.Background()

	task, err := c.Create(ctx, "ping", client.Request{Identifier: "hello-2", Endpoints: []string{"web-1", "web-2"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	go server.perform(task) // the agents work

	err = c.Watch(ctx, task.Type, task.ID, func(s client.State) {
		if s.Task.FinishedAt == nil {
			return // a progress display would show s here
		}
		for _, r := range s.Responses {
			fmt.Println(r.Endpoint, r.Status, string(r.Result))
		}
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// web-1 succeeded {"pong":true}
	// web-2 succeeded {"pong":true}
}

// List all tasks of a type, page by page.
func ExampleClient_List() {
	server, c := startServer()
	defer server.stop()
	defer c.Close()
	ctx := context.Background()

	for _, identifier := range []string{"monday", "tuesday", "wednesday"} {
		if _, err := c.Create(ctx, "ping", client.Request{Identifier: identifier, Endpoints: []string{"web-1"}}); err != nil {
			fmt.Println(err)
			return
		}
	}

	options := client.ListOptions{Status: "pending", Limit: 2}
	for {
		page, err := c.List(ctx, "ping", options)
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, task := range page.Tasks {
			fmt.Println(task.Identifier, task.Status)
		}
		if page.Next == "" {
			break
		}
		options.Cursor = page.Next
	}
	// Output:
	// wednesday pending
	// tuesday pending
	// monday pending
}

// Undo a task that has finished. The undo is a task of its own.
func ExampleClient_Undo() {
	server, c := startServer()
	defer server.stop()
	defer c.Close()
	ctx := context.Background()

	task, err := c.Create(ctx, "ping", client.Request{Identifier: "hello-3", Endpoints: []string{"web-1", "web-2"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	server.perform(task)

	undo, err := c.Undo(ctx, task.Type, task.ID)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(undo.Status, "undoes hello-3:", undo.Undoes == task.ID)
	// Output:
	// pending undoes hello-3: true
}

// Distinguish a refused request from a control plane that cannot be reached.
func Example_errors() {
	server, c := startServer()
	defer c.Close()
	ctx := context.Background()

	_, err := c.Create(ctx, "ping", client.Request{Identifier: "hello-4", Endpoints: []string{"web-1", "web-1"}})
	var problem *client.Problem
	if errors.As(err, &problem) {
		fmt.Println(problem.Status, problem.Title)
		for _, e := range problem.Errors {
			fmt.Println(e.Location, e.Message)
		}
	}

	server.stop()
	_, err = c.Endpoints(ctx)
	fmt.Println("try again later:", errors.Is(err, client.ErrUnreachable))
	// Output:
	// 422 Unprocessable Entity
	// body.endpoints[1] is "web-1", the same as endpoints[0]
	// try again later: true
}
