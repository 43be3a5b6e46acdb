// Package callback reports the events of tasks to the URLs that their requests name. A
// Caller claims the calls that are due in the store, makes them as Standard Webhooks
// (https://www.standardwebhooks.com) and stores their outcomes. A call is stored together
// with its event, and is due until its outcome is stored, so it may be made twice and is
// never lost.
package callback

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

const (
	// timeout bounds one attempt.
	timeout = 15 * time.Second
	// lifetime is how long after its event a call is tried.
	lifetime = 24 * time.Hour
	// maxAttempts bounds the attempts that run at the same time. Receivers that do not
	// respond delay others only if there are this many.
	maxAttempts = 100
	// maxBody and maxHeader bound what is read of a response, in bytes.
	maxBody   = 4 << 10
	maxHeader = 64 << 10
)

// errStopped is the error of attempts that a stop of the control plane cuts off.
var errStopped = errors.New("the control plane was stopped meanwhile")

// Store is the part of the store that holds the calls.
type Store interface {
	ClaimCalls(ctx context.Context, limit int) ([]store.Call, error)
	RecordCall(ctx context.Context, c store.CallResult) error
}

// Options configure New.
type Options struct {
	Store Store
	Key   Key
	// Check returns an error if a URL is not permitted. The error completes a sentence that
	// begins with "the URL".
	Check   func(url string) error
	Version string
	Log     *slog.Logger
	Metrics *Metrics
	// Poll is how often due calls are claimed without a wake-up; 500 ms when zero.
	Poll time.Duration
}

// Caller makes the calls that are due. Several may share a database.
type Caller struct {
	opts  Options
	loop  *backoff.Loop
	http  *http.Client
	retry backoff.Policy
	// slots holds one element for each attempt that runs.
	slots    chan struct{}
	attempts sync.WaitGroup
}

// New makes a Caller; Run starts it.
func New(o Options) *Caller {
	if o.Poll == 0 {
		o.Poll = 500 * time.Millisecond
	}
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:errcheck // it is one
	transport.MaxResponseHeaderBytes = maxHeader
	return &Caller{
		opts: o,
		loop: backoff.NewLoop(backoff.LoopOptions{
			Interval: o.Poll, Log: o.Log,
			Failing: "callbacks cannot be claimed; trying again", Recovered: "callbacks are claimed again",
		}),
		http: &http.Client{
			Timeout: timeout, Transport: transport,
			// The target of a redirect may not be permitted.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		retry: backoff.Policy{First: 5 * time.Second, Cap: time.Hour},
		slots: make(chan struct{}, maxAttempts),
	}
}

// Wake makes Run claim due calls at once. It never blocks.
func (c *Caller) Wake() { c.loop.Wake() }

// Run makes calls until ctx is done, and returns its error. While the database is
// unavailable it tries again. Attempts that run at the end are cut off, and due again.
func (c *Caller) Run(ctx context.Context) error {
	defer c.http.CloseIdleConnections()
	defer c.attempts.Wait()
	return c.loop.Run(ctx, c.round)
}

// round starts the attempts that are due, as far as there are slots. It reports whether
// there may be more.
func (c *Caller) round(ctx context.Context) (more bool, err error) {
	select {
	case c.slots <- struct{}{}: // at least one is free
		<-c.slots
	case <-ctx.Done():
		return false, ctx.Err()
	}
	free := cap(c.slots) - len(c.slots) // only this goroutine takes slots
	calls, err := c.opts.Store.ClaimCalls(ctx, free)
	for _, call := range calls {
		c.slots <- struct{}{}
		c.attempts.Go(func() {
			defer func() { <-c.slots }()
			c.attempt(ctx, call)
		})
	}
	return len(calls) == free, err
}

// attempt makes a call and stores its outcome.
func (c *Caller) attempt(ctx context.Context, call store.Call) {
	after, err := c.call(ctx, call)
	log := c.opts.Log.With("task", call.TaskID, "event", call.Event, "callback", call.ID, "attempt", call.Attempt)
	called, outcome := store.CallResult{Call: call}, delivered
	if err != nil {
		called.Error, outcome = err.Error(), givenUp
		if again := max(after, c.retry.Wait(call.Attempt-1)); ctx.Err() != nil {
			again, called.Error = 0, errStopped.Error()
			called.RetryAfter, outcome = &again, failed
		} else if !errors.Is(err, errGone) && call.StartedAt.Add(again).Before(call.At.Add(lifetime)) {
			called.RetryAfter, outcome = &again, failed
		}
	}
	c.opts.Metrics.attempt(outcome)
	switch outcome {
	case delivered:
		log.Debug("callback delivered")
	case failed:
		log.Debug("callback failed; it is tried again", "after", called.RetryAfter.String(), "error", called.Error)
	case givenUp:
		log.Warn("callback given up", "error", called.Error)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	if err := c.opts.Store.RecordCall(ctx, called); err != nil {
		log.Warn("outcome of a callback could not be stored, so the callback is repeated", "error", err)
	}
}

// errGone: the receiver wants no more calls.
var errGone = errors.New("the URL answered 410 Gone")

// call makes one call. The error is for people, and after is the delay that the receiver
// requests.
func (c *Caller) call(ctx context.Context, call store.Call) (after time.Duration, err error) {
	if err := c.opts.Check(call.URL); err != nil {
		return 0, fmt.Errorf("the URL %w", err)
	}
	req, err := c.request(ctx, call)
	if err != nil {
		return 0, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var e *url.Error
		if errors.As(err, &e) {
			err = e.Err // without the URL, which may hold a secret
		}
		return 0, err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxBody) // so that the connection can be reused
	switch code := resp.StatusCode; {
	case code/100 == 2:
		return 0, nil
	case code == http.StatusGone:
		return 0, errGone
	case code/100 == 3:
		return 0, fmt.Errorf("the URL answered %s; redirects are not followed", resp.Status)
	}
	return retryAfter(resp, c.retry.Cap), fmt.Errorf("the URL answered %s", resp.Status)
}

// retryAfter returns the delay that the receiver requests in seconds, up to limit.
func retryAfter(resp *http.Response, limit time.Duration) time.Duration {
	n, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 31)
	if err != nil {
		return 0 // there is none, or a date
	}
	return min(time.Duration(n)*time.Second, limit)
}
