// Package gate evaluates the gates of rollouts. A gate passes if Prometheus yields a
// result for its expression, or if its URL responds with status 2xx.
package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	prometheus "github.com/prometheus/client_golang/api/prometheus/v1"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

const (
	// timeout bounds one try.
	timeout = 5 * time.Second
	// tries is how often a gate that does not respond is tried.
	tries = 4
)

// Checker evaluates gates. It is safe for concurrent use.
type Checker struct {
	http       *http.Client
	prometheus prometheus.API // nil if there is none
	checkURL   func(url string) error
	retry      backoff.Policy
}

// New makes a Checker. prometheusURI is empty if there is no Prometheus. checkURL returns
// an error if the URL of a gate is not permitted; the error completes a sentence that
// begins with "the URL".
func New(prometheusURI string, checkURL func(url string) error) (*Checker, error) {
	return newChecker(prometheusURI, checkURL, timeout)
}

func newChecker(prometheusURI string, checkURL func(url string) error, timeout time.Duration) (*Checker, error) {
	c := &Checker{
		checkURL: checkURL,
		http: &http.Client{
			Timeout: timeout, Transport: http.DefaultTransport.(*http.Transport).Clone(), //nolint:errcheck // it is one
			// The status of the gate's own URL counts.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		retry: backoff.Policy{First: 500 * time.Millisecond, Cap: 5 * time.Second},
	}
	if prometheusURI == "" {
		return c, nil
	}
	var err error
	if c.prometheus, err = newPrometheus(prometheusURI, c.http); err != nil {
		return nil, fmt.Errorf("prometheus.uri: %w", err)
	}
	return c, nil
}

// Close closes idle connections.
func (c *Checker) Close() { c.http.CloseIdleConnections() }

// Check evaluates a gate for the endpoints and reports whether it passes; if it does not,
// reason explains that to people. A gate that does not respond is tried several times,
// then fails. The error is that of ctx.
func (c *Checker) Check(ctx context.Context, g tasker.Gate, endpoints []string) (passes bool, reason string, err error) {
	check := c.get
	if g.PromQL != "" {
		check = c.query
	}
	for try := range tries {
		if passes, reason, err = check(ctx, g, endpoints); err == nil {
			return passes, reason, nil
		}
		if try == tries-1 {
			break
		}
		if end := c.retry.Sleep(ctx, try); end != nil {
			return false, "", end
		}
	}
	if end := ctx.Err(); end != nil {
		return false, "", end
	}
	return false, fmt.Sprintf("it could not be evaluated: %v", err), nil
}

// get evaluates a gate that is a URL.
func (c *Checker) get(ctx context.Context, g tasker.Gate, _ []string) (bool, string, error) {
	if err := c.checkURL(g.URL); err != nil {
		return false, fmt.Sprintf("the URL %v", err), nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.URL, nil)
	if err != nil {
		return false, "", err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var e *url.Error
		if errors.As(err, &e) {
			err = e.Err // without the URL, which may hold a secret
		}
		return false, "", err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 4096) // so that the connection can be reused
	if resp.StatusCode/100 == 2 {
		return true, "", nil
	}
	return false, "the URL responds with " + resp.Status, nil
}
