// Package callback tells who asked for it what becomes of a task: it claims the
// calls that are due in the store, makes them as Standard Webhooks
// (https://www.standardwebhooks.com) and writes down how that went. A call is
// stored with the change that it tells of and due again until that is written, so
// it may be made twice and is never forgotten.
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
	// life is for how long an event is told, from when it happened.
	life = 24 * time.Hour
	// most bounds the attempts under way: those who do not answer hold up others
	// only when there are so many of them.
	most = 100
	// maxAnswer bounds what is read of an answer, in bytes, and maxHeader its header.
	maxAnswer = 4 << 10
	maxHeader = 64 << 10
)

// errStopped is what an attempt fails by that a stop of the control plane cuts off.
var errStopped = errors.New("the control plane was stopped meanwhile")

// Calls is the part of the store that holds the calls.
type Calls interface {
	ClaimCalls(ctx context.Context, limit int) ([]store.Call, error)
	RecordCall(ctx context.Context, c store.CallResult) error
}

// Options say what a Caller works with.
type Options struct {
	Calls Calls
	Key   Key
	// Allowed says, as the end of a sentence, why a URL may not be called.
	Allowed func(url string) error
	Version string
	Log     *slog.Logger
	Metrics *Metrics
	// Poll is how often it is looked for due calls without being woken; 500 ms when
	// zero.
	Poll time.Duration
}

// Caller makes the calls that are due. Several may do so on one database.
type Caller struct {
	opts  Options
	http  *http.Client
	retry backoff.Policy
	wake  chan struct{}
	// slots holds one for each attempt under way.
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
		http: &http.Client{
			Timeout: timeout, Transport: transport,
			// Where a redirect leads nobody has allowed.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		retry: backoff.Policy{First: 5 * time.Second, Cap: time.Hour},
		wake:  make(chan struct{}, 1), slots: make(chan struct{}, most),
	}
}

// Wake makes Run look for due calls at once. It never blocks.
func (c *Caller) Wake() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run makes calls until ctx is done, and returns its error. A database that is away
// is waited out. Attempts under way at the end are cut off, and due again.
func (c *Caller) Run(ctx context.Context) error {
	defer c.http.CloseIdleConnections()
	defer c.attempts.Wait()
	return backoff.Rounds{
		Poll: c.opts.Poll, Wake: c.wake,
		Failing: func(err error) { c.opts.Log.Warn("callbacks cannot be looked for; trying again", "error", err) },
		Mended:  func() { c.opts.Log.Info("callbacks are looked for again") },
	}.Run(ctx, c.round)
}

// round begins the attempts that are due, as far as there is room. It says whether
// there may be more, with room for them.
func (c *Caller) round(ctx context.Context) (more bool, err error) {
	select {
	case c.slots <- struct{}{}: // there is room
		<-c.slots
	case <-ctx.Done():
		return false, ctx.Err()
	}
	room := cap(c.slots) - len(c.slots) // only this goroutine takes some
	calls, err := c.opts.Calls.ClaimCalls(ctx, room)
	for _, call := range calls {
		c.slots <- struct{}{}
		c.attempts.Go(func() {
			defer func() { <-c.slots }()
			c.attempt(ctx, call)
		})
	}
	return len(calls) == room, err
}

// attempt makes a call and writes down how that went.
func (c *Caller) attempt(ctx context.Context, call store.Call) {
	after, err := c.call(ctx, call)
	log := c.opts.Log.With("task", call.TaskID, "event", call.Event, "callback", call.ID, "attempt", call.Attempt)
	called, outcome := store.CallResult{Call: call}, delivered
	if err != nil {
		called.Error, outcome = err.Error(), givenUp
		if again := max(after, c.retry.Wait(call.Attempt-1)); ctx.Err() != nil {
			again, called.Error = 0, errStopped.Error()
			called.RetryAfter, outcome = &again, failed
		} else if !errors.Is(err, errGone) && call.StartedAt.Add(again).Before(call.At.Add(life)) {
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
	if err := c.opts.Calls.RecordCall(ctx, called); err != nil {
		log.Warn("how a callback went could not be stored, so it is made again", "error", err)
	}
}

// errGone: the receiver wants to hear no more of it.
var errGone = errors.New("the URL answered 410 Gone")

// call makes one call. An error says for a person why it failed, and after is how
// long the receiver asks to be left alone.
func (c *Caller) call(ctx context.Context, call store.Call) (after time.Duration, err error) {
	if err := c.opts.Allowed(call.URL); err != nil {
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
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer) // so that the connection can be used again
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

// retryAfter is for how many seconds the receiver asks to be left alone.
func retryAfter(resp *http.Response, most time.Duration) time.Duration {
	n, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 31)
	if err != nil {
		return 0 // there is none, or a date
	}
	return min(time.Duration(n)*time.Second, most)
}
