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
	"net/http"
	"net/url"
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
