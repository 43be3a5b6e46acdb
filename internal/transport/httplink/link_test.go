package httplink_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/syncbuffer"
	"github.com/MatthiasWiesner/tasker/internal/transport/httplink"
	"github.com/MatthiasWiesner/tasker/internal/transport/transporttest"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// observer stores the states that it receives.
type observer struct {
	mu     sync.Mutex
	states []error
}

func (o *observer) observe(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.states = append(o.states, err)
}

// hasError reports whether any state is an error that contains text.
func (o *observer) hasError(text string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.ContainsFunc(o.states, func(err error) bool { return err != nil && strings.Contains(err.Error(), text) })
}

// sessions returns how many sessions have begun.
func (o *observer) sessions() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, err := range o.states {
		if err == nil {
			n++
		}
	}
	return n
}

// startReceive receives with a handler that accepts everything, until the test ends.
func startReceive(t testing.TB, link *httplink.Link) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = link.Receive(context.Background(), func(context.Context, []tasker.Order) error { return nil })
	}()
	t.Cleanup(func() {
		closeConn(t, link)
		<-done
	})
}

func TestLinkOptions(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t"
	for _, tt := range []struct{ uri, endpoint, instance string }{
		{"", "web-1", "i"},
		{"127.0.0.1:8888", "web-1", "i"},
		{"amqp://host", "web-1", "i"},
		{"http://", "web-1", "i"},
		{"http://user:" + secret + "@host", "web-1", "i"},
		{"http://user:" + secret + "@ho st", "web-1", "i"},
		{"http://host", "Web", "i"},
		{"http://host", "", "i"},
		{"http://host", "web-1", ""},
	} {
		_, err := httplink.NewLink(httplink.LinkOptions{URI: tt.uri, Endpoint: tt.endpoint, Instance: tt.instance})
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("NewLink(%q, %q, %q) returned %v", tt.uri, tt.endpoint, tt.instance, err)
		}
	}
}

func TestLinkWithPath(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	hub := s.newHub(t)
	batches := collect(t, hub, nil)
	srv := httptest.NewServer(http.StripPrefix("/tasker", s))
	t.Cleanup(srv.Close)
	link := newLink(t, srv.URL+"/tasker/", "web-1")
	if err := link.Send(t.Context(), update("web-1", 1)); err != nil || len(batches()) != 1 {
		t.Errorf("Send returned %v", err)
	}
}

func TestSilentHubEndsSession(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	collect(t, s.newHub(t, func(o *httplink.HubOptions) { o.Keepalive = 200 * time.Millisecond }), nil)
	wire := transporttest.NewProxy(t, s.address)
	var seen observer
	startReceive(t, newLink(t, "http://"+wire.Address, "web-1", func(o *httplink.LinkOptions) { o.Observer = seen.observe }))
	wait.For(t, "a session", func() bool { return seen.sessions() > 0 })
	wire.Stall()
	wait.For(t, "the session to end", func() bool { return seen.hasError("no keepalive from the control plane for 600ms") })
	before := seen.sessions()
	wire.Resume()
	wait.For(t, "the next session", func() bool { return seen.sessions() > before })
}

func TestKeepalivesKeepStreamOpen(t *testing.T) {
	t.Parallel()
	var keepalives atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.Header().Set("Tasker-Keepalive", "3")
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			_, _ = w.Write([]byte("\n"))
			_ = http.NewResponseController(w).Flush()
			select {
			case <-tick.C:
				keepalives.Add(1)
			case <-r.Context().Done():
				return
			}
		}
	}))
	t.Cleanup(srv.Close)
	var seen observer
	startReceive(t, newLink(t, srv.URL, "web-1", func(o *httplink.LinkOptions) { o.Observer = seen.observe }))
	wait.For(t, "keepalives for longer than the timeout of the session", func() bool { return keepalives.Load() >= 11 })
	if seen.sessions() != 1 || seen.hasError("") {
		t.Errorf("the observer received %v", seen.states)
	}
}

func TestStreamErrors(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		respond http.HandlerFunc
		want    string
	}{
		"a wrong token": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusUnauthorized)
		}, "unauthorized: the control plane does not accept the token"},
		"a proxy that wants a password": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Server", "nginx")
			http.Error(w, "no", http.StatusUnauthorized)
		}, `responded with 401 Unauthorized; not the control plane, but a proxy or another server ("nginx") sent this response`},
		"a problem": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"detail":"this token is web-2's"}`)
		}, "this token is web-2's"},
		"a name in use": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, `{"detail":"in use by another agent"}`)
		}, "in use by another agent"},
		"an error without a detail": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
		}, "/agent/v1/orders responded with 502 Bad Gateway"},
		"a redirection": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example/", http.StatusMovedPermanently)
		}, "set server.uri to the URI that leads to https://elsewhere.example/"},
		"another server": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "<html>")
		}, "is not a control plane that agents can connect to"},
		"an error that does not end": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Tasker-Keepalive", "0.05")
			w.WriteHeader(http.StatusInternalServerError)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, "responded with 500"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(tt.respond)
			t.Cleanup(srv.Close)
			var seen observer
			startReceive(t, newLink(t, srv.URL, "web-1", func(o *httplink.LinkOptions) { o.Observer = seen.observe }))
			wait.For(t, "the observer to be notified", func() bool { return seen.hasError("") })
			if !seen.hasError(tt.want) {
				t.Errorf("the observer received %v, want %q", seen.states, tt.want)
			}
			if seen.sessions() != 0 {
				t.Error("the observer received a session")
			}
		})
	}
}

// A line of the stream that does not end ends the session, not the agent's memory.
func TestEndlessLineEndsTheSession(t *testing.T) {
	t.Parallel()
	const chunk = 1 << 20
	var most atomic.Int64 // bytes written to one stream
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		part := bytes.Repeat([]byte("x"), chunk)
		for written := int64(chunk); ; written += chunk {
			if _, err := w.Write(part); err != nil {
				return
			}
			most.Store(max(most.Load(), written))
		}
	}))
	t.Cleanup(srv.Close)
	var seen observer
	startReceive(t, newLink(t, srv.URL, "web-1", func(o *httplink.LinkOptions) { o.Observer = seen.observe }))
	wait.For(t, "the session to end", func() bool { return seen.hasError("more than 8388608 bytes") })
	// The rest is in the buffers of the connection.
	if got := most.Load(); got > 32*chunk {
		t.Errorf("the link accepted %d bytes of a line", got)
	}
}

// A proxy that holds responses back is named as the likely cause, on both sides.
func TestBufferingProxyIsNamed(t *testing.T) {
	t.Parallel()
	s, log := newServer(t), &syncbuffer.Buffer{}
	hub := s.newHub(t, func(o *httplink.HubOptions) { o.Log = slog.New(slog.NewTextHandler(log, nil)) })
	collect(t, hub, nil)
	target, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: func(resp *http.Response) error {
			_, err := io.ReadAll(resp.Body) // until the end
			return err
		},
	})
	t.Cleanup(proxy.Close)
	var seen observer
	startReceive(t, newLink(t, proxy.URL, "web-1", func(o *httplink.LinkOptions) { o.Observer = seen.observe }))
	wait.For(t, "the agent to name the proxy", func() bool { return seen.hasError("turn off its buffering") })
	wait.For(t, "the control plane to name the proxy", func() bool { return strings.Contains(log.String(), "ended without a hello; a proxy") })
}
