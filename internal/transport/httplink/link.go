package httplink

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/wire"
)

// LinkOptions configure a Link.
type LinkOptions struct {
	// URI is the URI of the control plane: http(s)://host:port.
	URI string
	// Endpoint is the name of the agent's endpoint. Instance identifies its journal.
	Endpoint string
	Instance string
	// Token returns the bearer token. The Link calls it for each request, because the
	// token may change. Nil means no token.
	Token func() (string, error)
	// TLS may be nil.
	TLS *tls.Config
	Log *slog.Logger
	// Observer may be nil.
	Observer transport.Observer
	// Contested is called when another process has requested the endpoint's name. It must
	// not block, and may be nil.
	Contested func()
}

// Link is an agent's end.
type Link struct {
	opts       LinkOptions
	base       string
	process    string // a random id of this process
	path       atomic.Pointer[path]
	operations *wire.Operations // Receive and Send
}

// sendTimeout limits one POST of reports, and the wait for the headers of any response.
const sendTimeout = 30 * time.Second

// NewLink returns a Link, which connects in Receive and Send. It returns an error only for
// invalid options.
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
		operations: wire.NewOperations(), process: rand.Text(),
	}
	l.path.Store(l.newPath())
	return l, nil
}

// Close implements transport.Link.
func (l *Link) Close() error {
	l.operations.Close()
	l.operations.Wait()
	l.path.Load().abandon(transport.ErrClosed)
	return nil
}

// do sends a request as the agent. Its errors wrap ErrUnavailable. If the network path is
// abandoned, it returns the reason, and reads of the body fail.
func (l *Link) do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, l.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("create a request: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set(endpointHeader, l.opts.Endpoint)
	req.Header.Set(instanceHeader, l.opts.Instance)
	req.Header.Set(processHeader, l.process)
	if l.opts.Token != nil {
		token, err := l.opts.Token()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", transport.ErrUnavailable, err)
		}
		if token = strings.TrimSpace(token); token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
	}
	resp, err := l.path.Load().do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", transport.ErrUnavailable, err)
	}
	return resp, nil
}

// responseError returns an error for a response that is not successful. It wraps a
// *problem.
func responseError(resp *http.Response) error {
	p := &problem{}
	_ = json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(p) // the status suffices
	p.Status = resp.StatusCode
	mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	p.foreign = mediaType != problemType
	switch {
	case resp.StatusCode/100 == 3:
		p.Detail = fmt.Sprintf("the control plane redirects; set server.uri to the URI that leads to %s", resp.Header.Get("Location"))
	case p.foreign:
		p.Detail = foreignDetail(resp)
	case resp.StatusCode == http.StatusUnauthorized:
		p.Detail = "the control plane does not accept the token: the endpoint was revoked or never enrolled there, or the token belongs to another endpoint; enrol it again with tasker-agent enrol, or set server.token_file to a file with the control plane's agent.token, which must have api.agent_token: on"
	case p.Detail == "":
		p.Detail = fmt.Sprintf("%s responded with %s", resp.Request.URL.Redacted(), resp.Status)
	}
	if p.rejectsCredential() {
		return fmt.Errorf("%w: %w", transport.ErrUnauthorized, p)
	}
	return p
}

// foreignDetail describes a response that the control plane has not sent.
func foreignDetail(resp *http.Response) string {
	by := "not the control plane, but a proxy or another server"
	if server := resp.Header.Get("Server"); server != "" {
		by += fmt.Sprintf(" (%.40q)", server)
	}
	detail := fmt.Sprintf("%s responded with %s; %s sent this response", resp.Request.URL.Redacted(), resp.Status, by)
	if resp.StatusCode == http.StatusRequestEntityTooLarge {
		detail += "; let it accept bodies of 8 MiB (nginx: client_max_body_size 8m)"
	}
	return detail
}
