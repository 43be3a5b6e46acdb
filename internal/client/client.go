// Package client speaks to a control plane's API for programs: it knows the
// paths, the errors, and how to follow a task through interruptions.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// ErrUnreachable: the control plane cannot be reached, or cannot answer now.
var ErrUnreachable = errors.New("the control plane cannot be reached")

// requestTimeout bounds every call but Watch.
const requestTimeout = 30 * time.Second

// Options say whom to speak to.
type Options struct {
	// URL is the control plane's, like http://127.0.0.1:8888.
	URL string
	// Token is who calls; empty is nobody.
	Token string
	// TLS is whom to trust over https; nil trusts the system's authorities.
	TLS *tls.Config
	// UserAgent names the program.
	UserAgent string
}

// Client speaks to one control plane. It is safe for concurrent use.
type Client struct {
	base      string
	token     string
	userAgent string
	http      *http.Client
}

// New makes a client.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("%q is no URL of a control plane; write it like http://127.0.0.1:8888", o.URL)
	}
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, errors.New("the HTTP transport was replaced")
	}
	transport = transport.Clone()
	// All go to one host: without this, of many requests at a time two would keep
	// their connections.
	transport.MaxIdleConnsPerHost = transport.MaxIdleConns
	if o.TLS != nil {
		transport.TLSClientConfig = o.TLS
	}
	return &Client{
		base: strings.TrimRight(o.URL, "/"), token: o.Token, userAgent: o.UserAgent,
		http: &http.Client{
			Transport: transport,
			// A token goes to the URL it was given for and nowhere else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// URL is the control plane's.
func (c *Client) URL() string { return c.base }

// Close frees the idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

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

// Endpoints returns all endpoints, by name.
func (c *Client) Endpoints(ctx context.Context) ([]tasker.Endpoint, error) {
	all := []tasker.Endpoint{}
	for cursor := ""; ; {
		var page struct {
			Endpoints []tasker.Endpoint `json:"endpoints"`
			Next      string            `json:"next"`
		}
		v := url.Values{"limit": {"1000"}}
		if cursor != "" {
			v.Set("cursor", cursor)
		}
		if err := c.call(ctx, http.MethodGet, path("endpoints")+query(v), nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Endpoints...)
		if page.Next == "" || page.Next == cursor {
			return all, nil
		}
		cursor = page.Next
	}
}

// Endpoint returns one endpoint.
func (c *Client) Endpoint(ctx context.Context, name string) (tasker.Endpoint, error) {
	var e tasker.Endpoint
	return e, c.call(ctx, http.MethodGet, path("endpoints", name), nil, &e)
}

// Ready says whether the control plane is ready, or why not.
func (c *Client) Ready(ctx context.Context) error {
	return c.call(ctx, http.MethodGet, path("readyz"), nil, nil)
}

// call makes a request with a JSON body, if there is one, and decodes the answer.
func (c *Client) call(ctx context.Context, method, path string, body, out any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	header := http.Header{"Accept": {"application/json"}}
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return fmt.Errorf("write the request: %w", err)
		}
		header.Set("Content-Type", "application/json")
	}
	resp, err := c.do(ctx, method, path, content, header)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("%w: the answer to %s %s is not as expected: %w", ErrUnreachable, method, c.base+path, err)
	}
	return nil
}

// do makes a request and returns the answer if it is a good one.
func (c *Client) do(ctx context.Context, method, path string, body []byte, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	req.Header = header
	req.Header.Set("User-Agent", c.userAgent)
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var reason *url.Error // says the URL twice
		if errors.As(err, &reason) {
			err = reason.Err
		}
		return nil, fmt.Errorf("%w at %s: %w", ErrUnreachable, c.base, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, readProblem(resp)
}

// path joins escaped segments. A segment of dots only, which an identifier may
// be, is escaped too, lest somebody on the way resolves it.
func path(segments ...string) string {
	var b strings.Builder
	for _, s := range segments {
		if s = url.PathEscape(s); s == "." || s == ".." {
			s = strings.ReplaceAll(s, ".", "%2E")
		}
		b.WriteString("/" + s)
	}
	return b.String()
}

func query(v url.Values) string {
	if len(v) == 0 {
		return ""
	}
	return "?" + v.Encode()
}
