// Package management configures RabbitMQ for tasker through the management API of the
// broker: Initialize prepares a vhost, and Accounts are the users of the agents.
package management

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// ErrNotFound means that the broker does not have the requested object.
var ErrNotFound = errors.New("not found")

// Client calls the management API (https://www.rabbitmq.com/docs/management#http-api).
type Client struct {
	base           string
	user, password string
	http           *http.Client
}

// NewClient returns a Client for the URL of the API, such as http://localhost:15672/api, and
// a user.
func NewClient(apiURL, user, password string) (*Client, error) {
	u, err := url.Parse(apiURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("the URL of RabbitMQ's management API is not valid: write it as http://localhost:15672/api")
	}
	u.User = nil
	return &Client{
		base: strings.TrimRight(u.String(), "/"), user: user, password: password,
		http: &http.Client{
			Timeout:   30 * time.Second,
			Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, IdleConnTimeout: 90 * time.Second},
		},
	}, nil
}

// CloseIdle closes idle connections.
func (c *Client) CloseIdle() { c.http.CloseIdleConnections() }

// Call sends a request with a path of the given segments, which it escapes. A body that is
// not nil is sent as JSON. The response is decoded into result unless that is nil.
func (c *Client) Call(ctx context.Context, method string, body, result any, segments ...string) error {
	uri := c.base
	for _, s := range segments {
		uri += "/" + url.PathEscape(s)
	}
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode the request to RabbitMQ's management API: %w", err)
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, uri, content)
	if err != nil {
		return fmt.Errorf("call RabbitMQ's management API: %w", err)
	}
	req.SetBasicAuth(c.user, c.password)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("RabbitMQ's management API cannot be reached at %s; is it enabled there (rabbitmq-plugins enable rabbitmq_management)? %w", c.base, err)
	}
	defer resp.Body.Close()
	return c.read(resp, result)
}

func (c *Client) read(resp *http.Response, result any) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return fmt.Errorf("read the response of RabbitMQ's management API: %w", err)
	}
	isJSON := strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json")
	var failure struct{ Error, Reason string }
	if isJSON && resp.StatusCode >= 400 {
		_ = json.Unmarshal(b, &failure)
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("RabbitMQ's management API at %s refuses user %q (%s): the password is wrong, the user lacks the tag administrator, or the user is guest, which can connect only from the same machine", c.base, c.user, failure.Reason)
	case resp.StatusCode == http.StatusForbidden:
		return fmt.Errorf("RabbitMQ's management API at %s: user %q may not do that (%s); it needs the tag administrator", c.base, c.user, failure.Reason)
	case resp.StatusCode == http.StatusNotFound && isJSON:
		return ErrNotFound
	case resp.StatusCode >= 400 && isJSON:
		return fmt.Errorf("RabbitMQ's management API at %s returned %s: %s", c.base, resp.Status, failure.Reason)
	case resp.StatusCode >= 300 || len(b) > 0 && !isJSON:
		return c.wrongServer(resp.Status)
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(b, result); err != nil {
		return fmt.Errorf("read the response of RabbitMQ's management API: %w", err)
	}
	return nil
}

// wrongServer returns the error for a response that is not of the management API.
func (c *Client) wrongServer(status string) error {
	return fmt.Errorf("the server at %s (%s) is not RabbitMQ's management API; the URL of the API ends in /api, and its default port is 15672", c.base, status)
}
