package httplink

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// LinkOptions say what a Link works with.
type LinkOptions struct {
	// URI is the control plane's: http(s)://host:port.
	URI string
	// Endpoint is the name of the agent's endpoint, Instance that of its journal.
	Endpoint string
	Instance string
	// Token returns the bearer token; it is asked for each request, so that a
	// token may change. Nil sends none.
	Token func() (string, error)
	// TLS may be nil.
	TLS *tls.Config
	Log *slog.Logger
	// Observer may be nil.
	Observer transport.Observer
}

// Link is an agent's end.
type Link struct {
	opts   LinkOptions
	base   string
	client *http.Client

	ctx  context.Context // done, with cause ErrClosed, when the link is closed
	end  context.CancelCauseFunc
	work sync.WaitGroup // Receive and the Sends

	mu     sync.Mutex
	closed bool
}

// sendTimeout bounds one POST of reports, and the wait for the beginning of any
// answer.
const sendTimeout = 30 * time.Second

// pause is for how long an agent that has nothing to report keeps the connection for
// it. That is longer than the heartbeats of 10,000 agents are apart, and shorter than
// the control plane's patience: a connection for each heartbeat costs it more than one
// that idles.
const pause = 4 * time.Minute

// NewLink makes a Link; it connects in Receive and Send. Its error is about the
// options only.
func NewLink(opts LinkOptions) (*Link, error) {
	u, err := url.Parse(opts.URI)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
		return nil, errors.New("the URI of the control plane is not valid: write it as http://127.0.0.1:8888 or https://host:port, without user and password")
	}
	if err := tasker.ValidateEndpoint(opts.Endpoint); err != nil {
		return nil, err
	}
	if opts.Instance == "" {
		return nil, errors.New("the agent's instance is missing")
	}
	l := &Link{
		opts: opts, base: u.Scheme + "://" + u.Host + strings.TrimSuffix(u.EscapedPath(), "/"),
		client: &http.Client{
			Transport: &http.Transport{
				Proxy:                 http.ProxyFromEnvironment,
				DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
				TLSClientConfig:       opts.TLS,
				TLSHandshakeTimeout:   10 * time.Second,
				ResponseHeaderTimeout: sendTimeout,
				IdleConnTimeout:       pause,
				MaxIdleConnsPerHost:   2,
			},
			// A redirected POST would lose its body.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	l.ctx, l.end = context.WithCancelCause(context.Background())
	return l, nil
}

// Close implements transport.Link.
func (l *Link) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.end(transport.ErrClosed)
	l.work.Wait()
	l.client.CloseIdleConnections()
	return nil
}

// begin counts a piece of work that Close waits for; false after Close. Its
// context ends with the link.
func (l *Link) begin(ctx context.Context) (context.Context, func(), bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, nil, false
	}
	l.work.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(l.ctx, func() { cancel(transport.ErrClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
		l.work.Done()
	}, true
}

// do makes a request in the agent's name. Its errors are ErrUnavailable.
func (l *Link) do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, l.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set(endpointHeader, l.opts.Endpoint)
	req.Header.Set(instanceHeader, l.opts.Instance)
	if l.opts.Token != nil {
		token, err := l.opts.Token()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", transport.ErrUnavailable, err)
		}
		if token = strings.TrimSpace(token); token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", transport.ErrUnavailable, err)
	}
	return resp, nil
}

// explain makes an error, with a *problem in it, of an answer that is no success.
func explain(resp *http.Response) error {
	p := &problem{}
	_ = json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(p) // the status alone says enough
	p.Status = resp.StatusCode
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		p.Detail = "the control plane does not accept the token: the endpoint was revoked or never enrolled there, or the token is another's; enrol it anew with tasker-agent enrol, or set server.token_file to a file with the control plane's agent.token"
	case resp.StatusCode/100 == 3:
		p.Detail = fmt.Sprintf("the control plane is elsewhere; set server.uri to what leads to %s", resp.Header.Get("Location"))
	case p.Detail == "":
		p.Detail = fmt.Sprintf("%s answered %s", resp.Request.URL.Redacted(), resp.Status)
	}
	if p.Status == http.StatusUnauthorized || p.Status == http.StatusForbidden && p.Report == nil {
		return fmt.Errorf("%w: %w", transport.ErrUnauthorized, p)
	}
	return p
}
