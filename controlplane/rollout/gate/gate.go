// Package gate asks whether a rollout may go on: a Prometheus for an expression,
// or a URL for a 2xx.
package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

const (
	// timeout bounds one question.
	timeout = 5 * time.Second
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 1 << 20
	// tries is how often is asked whoever does not answer.
	tries = 4
)

// Keeper asks gates. It is safe for concurrent use.
type Keeper struct {
	http       *http.Client
	prometheus string // where it is asked; empty is none
	allowed    func(url string) error
	retry      backoff.Policy
}

// New makes a Keeper. The URI is that of a Prometheus; without one no gate can ask
// it. allowed says, as the end of a sentence, why the URL of a gate may not be asked.
func New(uri string, allowed func(url string) error) (*Keeper, error) {
	k := &Keeper{
		allowed: allowed,
		http: &http.Client{
			Timeout: timeout, Transport: http.DefaultTransport.(*http.Transport).Clone(), //nolint:errcheck // it is one
			// What a gate says is what its own URL says.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		retry: backoff.Policy{First: 500 * time.Millisecond, Cap: 5 * time.Second},
	}
	if uri == "" {
		return k, nil
	}
	var err error
	if k.prometheus, err = url.JoinPath(uri, "/api/v1/query"); err != nil {
		return nil, fmt.Errorf("prometheus.uri: %w", err)
	}
	return k, nil
}

// Close drops the connections that are kept.
func (k *Keeper) Close() { k.http.CloseIdleConnections() }

// Ask says whether a gate holds now, and if it does not, why, for a person. Whoever
// does not answer is asked a few times more. The error is that of ctx.
func (k *Keeper) Ask(ctx context.Context, g tasker.Gate, endpoints []string) (holds bool, why string, err error) {
	ask := k.url
	if g.PromQL != "" {
		ask = k.promQL
	}
	for try := range tries {
		if holds, why, err = ask(ctx, g, endpoints); err == nil {
			return holds, why, nil
		}
		if try == tries-1 {
			break
		}
		if end := k.retry.Sleep(ctx, try); end != nil {
			return false, "", end
		}
	}
	if end := ctx.Err(); end != nil {
		return false, "", end
	}
	return false, fmt.Sprintf("it could not be asked: %v", err), nil
}

func (k *Keeper) url(ctx context.Context, g tasker.Gate, _ []string) (bool, string, error) {
	if err := k.allowed(g.URL); err != nil {
		return false, fmt.Sprintf("the URL %v", err), nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.URL, nil)
	if err != nil {
		return false, "", err
	}
	resp, err := k.http.Do(req)
	if err != nil {
		var e *url.Error
		if errors.As(err, &e) {
			err = e.Err // without the URL, which everybody sees in the task
		}
		return false, "", err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 4096) // so that the connection can be used again
	if resp.StatusCode/100 == 2 {
		return true, "", nil
	}
	return false, "the URL answers " + resp.Status, nil
}
