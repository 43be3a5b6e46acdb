package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// Request is a task to be created.
type Request struct {
	Identifier     string           `json:"identifier"`
	Payload        json.RawMessage  `json:"payload,omitempty"`
	Endpoints      []string         `json:"endpoints,omitempty"`
	Labels         string           `json:"labels,omitempty"`
	ReceiveTimeout *tasker.Duration `json:"receive_timeout,omitempty"`
	Timeout        *tasker.Duration `json:"timeout,omitempty"`
	NotBefore      *time.Time       `json:"not_before,omitempty"`
	DryRun         bool             `json:"dry_run,omitempty"`
	// Callback is for all events if it names none: if they are nil.
	Callback *tasker.Callback `json:"callback,omitempty"`
	// Rollout is JSON as tasker.RolloutSpec.
	Rollout json.RawMessage `json:"rollout,omitempty"`
}

// State is a task with its responses. Watch tells no more than these.
type State struct {
	Task      tasker.Task       `json:"task"`
	Responses []tasker.Response `json:"responses"`
	// Controls is what people asked of the task.
	Controls []tasker.Control `json:"controls,omitempty"`
	// UndoneBy is the id of the task that undoes the last attempt; empty if none does.
	UndoneBy string `json:"undone_by,omitempty"`
	// Callbacks are the events that were to be told.
	Callbacks []tasker.Delivery `json:"callbacks,omitempty"`
	// Lost is why Watch hears nothing any more; the rest is how it was.
	Lost error `json:"-"`
}

// Query selects tasks.
type Query struct {
	Status string
	Limit  int
	Cursor string
}

// Tasks is one page of tasks, newest first; Next is the cursor of the next one.
type Tasks struct {
	Tasks []tasker.Task `json:"tasks"`
	Next  string        `json:"next"`
}

// Create creates a task; the same request again returns the same task.
func (c *Client) Create(ctx context.Context, taskType string, r Request) (tasker.Task, error) {
	return c.post(ctx, path(taskType), r)
}

// CreateJSON is Create with the request as somebody else has written it.
func (c *Client) CreateJSON(ctx context.Context, taskType string, request json.RawMessage) (tasker.Task, error) {
	return c.post(ctx, path(taskType), request)
}

// Plan is what a request would come to if it was made now; nothing is created.
func (c *Client) Plan(ctx context.Context, taskType string, request json.RawMessage) (tasker.WavePlan, error) {
	var p tasker.WavePlan
	return p, c.call(ctx, http.MethodPost, path(taskType, "plan"), request, &p)
}

// Get returns a task by its id or identifier.
func (c *Client) Get(ctx context.Context, taskType, ref string) (State, error) {
	var s State
	return s, c.call(ctx, http.MethodGet, path(taskType, ref), nil, &s)
}

// List returns one page of tasks.
func (c *Client) List(ctx context.Context, taskType string, q Query) (Tasks, error) {
	v := url.Values{}
	if q.Status != "" {
		v.Set("status", q.Status)
	}
	if q.Limit != 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.Cursor != "" {
		v.Set("cursor", q.Cursor)
	}
	var page Tasks
	return page, c.call(ctx, http.MethodGet, path(taskType)+query(v), nil, &page)
}

// Cancel asks for a task to be cancelled.
func (c *Client) Cancel(ctx context.Context, taskType, ref string) (tasker.Task, error) {
	return c.post(ctx, path(taskType, ref, "cancel"), nil)
}

// Retry begins a new attempt on the endpoints that did not succeed.
func (c *Client) Retry(ctx context.Context, taskType, ref string) (tasker.Task, error) {
	return c.post(ctx, path(taskType, ref, "retry"), nil)
}

// Pause has a rollout begin no further wave.
func (c *Client) Pause(ctx context.Context, taskType, ref string) (tasker.Task, error) {
	return c.post(ctx, path(taskType, ref, "pause"), nil)
}

// Resume has a paused rollout go on.
func (c *Client) Resume(ctx context.Context, taskType, ref string) (tasker.Task, error) {
	return c.post(ctx, path(taskType, ref, "resume"), nil)
}

// Undo makes the task that undoes an ended one, and returns it.
func (c *Client) Undo(ctx context.Context, taskType, ref string) (tasker.Task, error) {
	return c.post(ctx, path(taskType, ref, "undo"), nil)
}

// post makes a call that is answered with a task.
func (c *Client) post(ctx context.Context, path string, body any) (tasker.Task, error) {
	var task tasker.Task
	return task, c.call(ctx, http.MethodPost, path, body, &task)
}

// Output writes what the handler printed on an endpoint to w.
func (c *Client) Output(ctx context.Context, taskType, ref, endpoint string, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := c.do(ctx, http.MethodGet, path(taskType, ref, "responses", endpoint, "output"), nil, http.Header{"Accept": {"text/plain"}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("read the output: %w", err)
	}
	return nil
}
