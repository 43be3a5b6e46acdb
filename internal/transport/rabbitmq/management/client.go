// Package management sets RabbitMQ up for tasker through its management API.
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

// ErrNotFound: the broker has no such thing.
var ErrNotFound = errors.New("not found")

// Client speaks to the management API (https://www.rabbitmq.com/docs/management#http-api).
type Client struct {
	base           string
	user, password string
	http           *http.Client
}

// NewClient takes the URL of the API, such as http://localhost:15672/api, and
// who to be there.
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

// CloseIdle closes connections that are kept for further calls.
func (c *Client) CloseIdle() { c.http.CloseIdleConnections() }

// Call does method on the path made of segments, which are escaped. A body that
// is not nil is sent as JSON, an answer is read into one that is not nil.
func (c *Client) Call(ctx context.Context, method string, body, answer any, segments ...string) error {
	at := c.base
	for _, s := range segments {
		at += "/" + url.PathEscape(s)
	}
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("write the request to RabbitMQ's management API: %w", err)
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, at, content)
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
	return c.read(resp, answer)
}

func (c *Client) read(resp *http.Response, answer any) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return fmt.Errorf("read the answer of RabbitMQ's management API: %w", err)
	}
	isJSON := strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json")
	var said struct{ Error, Reason string }
	if isJSON && resp.StatusCode >= 400 {
		_ = json.Unmarshal(b, &said)
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("RabbitMQ's management API at %s does not let user %q in (%s): the password is wrong, the user lacks the tag administrator, or it is guest, which may come from the same machine only", c.base, c.user, said.Reason)
	case resp.StatusCode == http.StatusForbidden:
		return fmt.Errorf("RabbitMQ's management API at %s: user %q may not do that (%s); it needs the tag administrator", c.base, c.user, said.Reason)
	case resp.StatusCode == http.StatusNotFound && isJSON:
		return ErrNotFound
	case resp.StatusCode >= 400 && isJSON:
		return fmt.Errorf("RabbitMQ's management API at %s answers %s: %s", c.base, resp.Status, said.Reason)
	case resp.StatusCode >= 300 || len(b) > 0 && !isJSON:
		return c.stranger(resp.Status)
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(b, answer); err != nil {
		return fmt.Errorf("read the answer of RabbitMQ's management API: %w", err)
	}
	return nil
}

// stranger says that somebody else has answered.
func (c *Client) stranger(status string) error {
	return fmt.Errorf("what answers at %s (%s) is not RabbitMQ's management API; its URL ends in /api, its port is 15672 unless configured otherwise", c.base, status)
}
