// Package client calls the API of a tasker control plane from Go: it creates, reads,
// watches and changes tasks, and lists the endpoints. A caller passes context and plain
// values and receives the vocabulary of package tasker; the command tasker is built on
// this package.
//
// A request that the control plane refuses returns a [*Problem]. A control plane that
// cannot be reached, or that cannot serve the request now, returns an error that matches
// [ErrUnreachable]: the caller may send the same request again.
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
)

// ErrUnreachable is matched by every error of a control plane that cannot be reached,
// or that cannot serve the request at the moment.
var ErrUnreachable = errors.New("the control plane cannot be reached")

// requestTimeout bounds every call except Watch.
const requestTimeout = 30 * time.Second

// Options configure a Client.
type Options struct {
	// URL is the base URL of the control plane, such as http://127.0.0.1:8888.
	URL string
	// Token is the access token of the caller. If it is empty, none is sent.
	Token string
	// TLS configures https connections. If it is nil, the certificate authorities of
	// the system are trusted.
	TLS *tls.Config
	// UserAgent is the name and version of the calling program.
	UserAgent string
}

// Client calls the API of one control plane. It is safe for concurrent use. Close it
// when it is no longer needed.
type Client struct {
	base      string
	token     string
	userAgent string
	http      *http.Client
}

// New returns a client. It does not connect yet.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("%q is not the URL of a control plane; write it like http://127.0.0.1:8888", o.URL)
	}
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, errors.New("http.DefaultTransport is not an *http.Transport")
	}
	transport = transport.Clone()
	// All requests go to one host. By default only two of many concurrent requests
	// would keep their connections.
	transport.MaxIdleConnsPerHost = transport.MaxIdleConns
	if o.TLS != nil {
		transport.TLSClientConfig = o.TLS
	}
	return &Client{
		base: strings.TrimRight(o.URL, "/"), token: o.Token, userAgent: o.UserAgent,
		http: &http.Client{
			Transport: transport,
			// The token must be sent to the configured URL only.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// URL returns the base URL of the control plane.
func (c *Client) URL() string { return c.base }

// Close closes the idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Ready returns nil if the control plane is ready, and otherwise the reason.
func (c *Client) Ready(ctx context.Context) error {
	return c.call(ctx, http.MethodGet, path("readyz"), nil, nil)
}

// call sends a request and decodes the JSON of its response into out. A nil body or a
// nil out is left out.
func (c *Client) call(ctx context.Context, method, path string, body, out any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	header := http.Header{"Accept": {"application/json"}}
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return fmt.Errorf("encode the request: %w", err)
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
		return fmt.Errorf("%w: unexpected response to %s %s: %w", ErrUnreachable, method, c.base+path, err)
	}
	return nil
}

// do sends a request and returns its response if the status is 2xx.
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
		var urlErr *url.Error // would repeat the URL
		if errors.As(err, &urlErr) {
			err = urlErr.Err
		}
		return nil, fmt.Errorf("%w at %s: %w", ErrUnreachable, c.base, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, readProblem(resp)
}

// path joins escaped segments. An identifier may consist of dots only; such a segment is
// escaped too, so that no proxy resolves it.
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

// query returns the query string of a URL, with its question mark; empty if there are no values.
func query(v url.Values) string {
	if len(v) == 0 {
		return ""
	}
	return "?" + v.Encode()
}
