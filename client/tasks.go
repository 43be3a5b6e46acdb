package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// Request describes a task to create. It must set Endpoints, Labels or both, or else All.
type Request struct {
	// Identifier is the caller's own name of the task. Creating a task again with the
	// same identifier and the same request returns the existing task.
	Identifier string `json:"identifier"`
	// Payload is the JSON that the handler receives.
	Payload json.RawMessage `json:"payload,omitempty"`
	// Endpoints are the names of endpoints.
	Endpoints []string `json:"endpoints,omitzero"`
	// Labels is a selector such as "role=web,zone!=b". It is resolved once, when the
	// task is created.
	Labels string `json:"labels,omitempty"`
	// All sends the task to every endpoint that serves its type.
	All bool `json:"-"`
	// ReceiveTimeout is the time within which each endpoint must receive the task.
	ReceiveTimeout *tasker.Duration `json:"receive_timeout,omitempty"`
	// Timeout bounds the execution on each endpoint.
	Timeout *tasker.Duration `json:"timeout,omitempty"`
	// NotBefore is the earliest start of the task.
	NotBefore *time.Time `json:"not_before,omitempty"`
	// DryRun makes the handler report what it would change, and change nothing.
	DryRun bool `json:"dry_run,omitempty"`
	// Callback is called on its events. If its Events are nil, it is called on all.
	Callback *tasker.Callback `json:"callback,omitempty"`
	// Rollout is the JSON of a tasker.RolloutSpec.
	Rollout json.RawMessage `json:"rollout,omitempty"`
}

// State is a task with its responses. Get returns all fields except StreamErr; Watch
// passes Task, Responses and StreamErr only.
type State struct {
	Task      tasker.Task       `json:"task"`
	Responses []tasker.Response `json:"responses"`
	// Controls are the changes that callers have requested, such as a pause.
	Controls []tasker.Control `json:"controls,omitempty"`
	// UndoneBy is the id of the task that undoes the last attempt; empty if there is none.
	UndoneBy string `json:"undone_by,omitempty"`
	// Callbacks are the events for which the callback was or will be called.
	Callbacks []tasker.Delivery `json:"callbacks,omitempty"`
	// StreamErr is why Watch receives no updates at the moment. The other fields then
	// hold the last known state.
	StreamErr error `json:"-"`
}

// ListOptions select a page of tasks. Zero values select the newest tasks of any status.
type ListOptions struct {
	// Status is a task status.
	Status string
	// Limit is the highest number of tasks.
	Limit int
	// Cursor is the Next of the page before.
	Cursor string
}

// TaskPage is one page of tasks, newest first.
type TaskPage struct {
	Tasks []tasker.Task `json:"tasks"`
	// Next is the cursor of the next page; empty on the last page.
	Next string `json:"next"`
}

// checkSelection returns an error if the request does not select endpoints. Fields that the
// caller has left empty, perhaps by mistake, must not select every endpoint.
func (r Request) checkSelection() error {
	selects := r.Endpoints != nil || r.Labels != ""
	switch {
	case r.Endpoints != nil && len(r.Endpoints) == 0:
		return errors.New("the request has an empty list of endpoints: name at least one, or set Endpoints to nil")
	case selects && r.All:
		return errors.New("the request has All, and also Endpoints or Labels: set only one of the two")
	case !selects && !r.All:
		return errors.New("the request selects no endpoints: set Endpoints or Labels, or All for every endpoint that serves the type")
	}
	return nil
}

// Create creates a task. The same request with the same identifier returns the same task.
// A request that selects no endpoints is an error, and is not sent.
func (c *Client) Create(ctx context.Context, taskType string, r Request) (tasker.Task, error) {
	if err := r.checkSelection(); err != nil {
		return tasker.Task{}, err
	}
	return c.postTask(ctx, path(taskType), r)
}

// CreateJSON creates a task from a request in JSON, the body of POST /TYPE. A request without
// endpoints and labels is for every endpoint that serves the type.
func (c *Client) CreateJSON(ctx context.Context, taskType string, request json.RawMessage) (tasker.Task, error) {
	return c.postTask(ctx, path(taskType), request)
}

// Plan returns the waves of a request as they would be now. It creates nothing.
func (c *Client) Plan(ctx context.Context, taskType string, request json.RawMessage) (tasker.WavePlan, error) {
	var p tasker.WavePlan
	return p, c.call(ctx, http.MethodPost, path(taskType, "plan"), request, &p)
}

// Get returns a task and its responses. ref is the id or the identifier of the task.
func (c *Client) Get(ctx context.Context, taskType, ref string) (State, error) {
	var s State
	return s, c.call(ctx, http.MethodGet, path(taskType, ref), nil, &s)
}

// List returns one page of tasks, newest first.
func (c *Client) List(ctx context.Context, taskType string, o ListOptions) (TaskPage, error) {
	v := url.Values{}
	if o.Status != "" {
		v.Set("status", o.Status)
	}
	if o.Limit != 0 {
		v.Set("limit", strconv.Itoa(o.Limit))
	}
	if o.Cursor != "" {
		v.Set("cursor", o.Cursor)
	}
	var page TaskPage
	return page, c.call(ctx, http.MethodGet, path(taskType)+query(v), nil, &page)
}

// Cancel requests the cancellation of a task. Watch it to see when it has ended.
func (c *Client) Cancel(ctx context.Context, taskType, ref string) (tasker.Task, error) {
	return c.postTask(ctx, path(taskType, ref, "cancel"), nil)
}

// Retry starts a new attempt on the endpoints that have not succeeded.
func (c *Client) Retry(ctx context.Context, taskType, ref string) (tasker.Task, error) {
	return c.postTask(ctx, path(taskType, ref, "retry"), nil)
}

// Pause pauses a rollout: no further wave begins.
func (c *Client) Pause(ctx context.Context, taskType, ref string) (tasker.Task, error) {
	return c.postTask(ctx, path(taskType, ref, "pause"), nil)
}

// Resume continues a paused rollout.
func (c *Client) Resume(ctx context.Context, taskType, ref string) (tasker.Task, error) {
	return c.postTask(ctx, path(taskType, ref, "resume"), nil)
}

// Undo creates the task that undoes an ended task, and returns the new task.
func (c *Client) Undo(ctx context.Context, taskType, ref string) (tasker.Task, error) {
	return c.postTask(ctx, path(taskType, ref, "undo"), nil)
}

// postTask sends a request whose response is a task.
func (c *Client) postTask(ctx context.Context, path string, body any) (tasker.Task, error) {
	var task tasker.Task
	return task, c.call(ctx, http.MethodPost, path, body, &task)
}

// Output writes the output of the handler on an endpoint to w.
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

// Watch calls show with the state of a task, now and after each change, until the task
// has finished. It resumes an interrupted stream; while it cannot, it passes the reason
// to show as StreamErr. After two minutes without a stream it returns an error that
// matches ErrUnreachable.
func (c *Client) Watch(ctx context.Context, taskType, ref string, show func(State)) error {
	w := watcher{client: c, path: path(taskType, ref, "events"), show: show}
	return w.run(ctx)
}
