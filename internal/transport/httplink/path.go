package httplink

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"
)

// idleTimeout is how long an agent keeps an idle connection for reports. It is longer than
// the heartbeat interval in a fleet of 10,000 agents, and shorter than the idle timeout of
// the control plane: a new connection for each heartbeat costs more than an idle one.
const idleTimeout = 4 * time.Minute

// path is a set of connections to the control plane. A network may drop established
// connections silently, and their requests would then wait for their timeouts. So when the
// stream of orders falls silent, the link abandons the path with all its requests and uses a
// new one.
type path struct {
	client *http.Client
	// ctx ends with the path; its cause is the reason.
	ctx context.Context
	end context.CancelCauseFunc
}

func (l *Link) newPath() *path {
	p := &path{client: &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			TLSClientConfig:       l.opts.TLS,
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: sendTimeout,
			IdleConnTimeout:       idleTimeout,
			MaxIdleConnsPerHost:   2,
		},
		// A redirected POST would lose its body.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	p.ctx, p.end = context.WithCancelCause(context.Background())
	return p
}

// renewPath abandons the link's connections and their requests.
func (l *Link) renewPath(reason error) { l.path.Swap(l.newPath()).abandon(reason) }

// abandon ends the requests on the path for a reason, and closes its connections.
func (p *path) abandon(reason error) {
	p.end(reason)
	p.client.CloseIdleConnections()
}

// do sends a request. If the path is abandoned, it returns the reason.
func (p *path) do(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(req.Context())
	stop := context.AfterFunc(p.ctx, cancel)
	release := func() {
		stop()
		cancel()
	}
	resp, err := p.client.Do(req.WithContext(ctx))
	if err != nil {
		release()
		if p.ctx.Err() != nil && req.Context().Err() == nil {
			err = context.Cause(p.ctx)
		}
		return nil, err
	}
	resp.Body = &releasingBody{resp.Body, release}
	return resp, nil
}

// releasingBody calls release when it is closed.
type releasingBody struct {
	io.ReadCloser
	release func()
}

// Close implements io.Closer.
func (b *releasingBody) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}
