package httplink_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/httplink"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// noHijacker is an HTTP/1 response whose connection cannot be hijacked.
type noHijacker struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (w noHijacker) FlushError() error                   { return w.control.Flush() }
func (w noHijacker) SetWriteDeadline(at time.Time) error { return w.control.SetWriteDeadline(at) }
func (w noHijacker) SetReadDeadline(at time.Time) error  { return w.control.SetReadDeadline(at) }
func withoutHijacking(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(noHijacker{w, http.NewResponseController(w)}, r)
	})
}

// TestServerShutdown shuts a server down like a control plane that stops. The server waits
// for its streams, except for hijacked ones; both kinds end with the hub.
func TestServerShutdown(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		tls, http2 bool
		with       func(http.Handler) http.Handler
		waits      bool
	}{
		"http":              {},
		"https":             {tls: true},
		"http2":             {tls: true, http2: true, waits: true},
		"without hijacking": {with: withoutHijacking, waits: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hub := httplink.NewHub(httplink.HubOptions{Types: types(), Log: slog.New(slog.DiscardHandler)})
			handler := hub.Handler()
			if tt.with != nil {
				handler = tt.with(handler)
			}
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Of-The-Server", "kept")
				handler.ServeHTTP(w, r)
			}))
			srv.EnableHTTP2 = tt.http2
			if tt.tls {
				srv.StartTLS()
			} else {
				srv.Start()
			}
			t.Cleanup(srv.Close)
			collect(t, hub, nil)
			s := &server{url: srv.URL}
			stream := s.open(t, srv.Client(), "web-1", "journal-of-web-1")
			if stream.header.Get("X-Of-The-Server") != "kept" || stream.header.Get("Content-Type") != "application/x-ndjson" || stream.header.Get("Date") == "" {
				t.Errorf("the response has the headers %v", stream.header)
			}
			post(t, srv.Client(), srv.URL, "web-1", reports(t, hello("web-1", "ping")))

			stopped := make(chan error, 1)
			stop, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() { stopped <- srv.Config.Shutdown(stop) }()
			if !tt.waits {
				if err := <-stopped; err != nil {
					t.Errorf("Shutdown returned %v", err)
				}
				if err := hub.Send(t.Context(), assignment("web-1", 1)); err != nil {
					t.Errorf("Send returned %v", err)
				}
				if line, err := stream.next(); !strings.Contains(line, "task-1") {
					t.Errorf("the stream has %q, %v", line, err)
				}
			}
			closeConn(t, hub)
			if line, err := stream.next(); !errors.Is(err, io.EOF) {
				t.Errorf("the stream continues with %q, %v", line, err)
			}
			if tt.waits {
				if err := <-stopped; err != nil {
					t.Errorf("Shutdown returned %v", err)
				}
			}
		})
	}
}

// TestClosedConnectionEndsStream uses a keepalive interval of an hour, so that no failing
// keepalive ends the stream.
func TestClosedConnectionEndsStream(t *testing.T) {
	t.Parallel()
	for name, disturb := range map[string]func(net.Conn){
		"the agent closes the connection": func(c net.Conn) { c.Close() },
		"the agent sends another request": func(c net.Conn) { fmt.Fprint(c, "GET / HTTP/1.1") },
	} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", tls=", secure), func(t *testing.T) {
				t.Parallel()
				hub := httplink.NewHub(httplink.HubOptions{Types: types(), Keepalive: time.Hour, Log: slog.New(slog.DiscardHandler)})
				srv := httptest.NewUnstartedServer(hub.Handler())
				srv.StartTLS()
				if !secure {
					srv.Close()
					srv = httptest.NewServer(hub.Handler())
				}
				t.Cleanup(srv.Close)
				collect(t, hub, nil)
				var mu sync.Mutex
				var conns []net.Conn
				dial := func(ctx context.Context, network, address string) (net.Conn, error) {
					c, err := (&net.Dialer{}).DialContext(ctx, network, address)
					if err == nil && secure {
						c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
					}
					mu.Lock()
					defer mu.Unlock()
					conns = append(conns, c)
					return c, err
				}
				client := &http.Client{Transport: &http.Transport{DialContext: dial, DialTLSContext: dial, DisableKeepAlives: true}}
				s := &server{url: srv.URL}
				stream := s.open(t, client, "web-1", "journal-of-web-1")
				post(t, srv.Client(), srv.URL, "web-1", reports(t, hello("web-1", "ping")))
				if err := hub.Send(t.Context(), assignment("web-1", 1)); err != nil {
					t.Fatalf("Send returned %v", err)
				}
				if line, err := stream.next(); !strings.Contains(line, "task-1") {
					t.Fatalf("the stream has %q, %v", line, err)
				}
				mu.Lock()
				disturb(conns[0])
				mu.Unlock()
				wait.For(t, "the endpoint to be offline", func() bool {
					return errors.Is(hub.Send(t.Context(), assignment("web-1", 2)), transport.ErrOffline)
				})
				srv.Client().CloseIdleConnections()
			})
		}
	}
}

// TestKeepaliveIntervalGrowsWithFleet reads the interval that each agent receives.
func TestKeepaliveIntervalGrowsWithFleet(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.newHub(t, func(o *httplink.HubOptions) { o.Keepalive = 20 * time.Millisecond })
	for i, want := range []string{"0.02", "0.02", "0.03", "0.04", "0.05", "0.06", "0.07", "0.08", "0.08", "0.08"} {
		stream := s.open(t, nil, fmt.Sprint("web-", i), "i")
		if got := stream.header.Get("Tasker-Keepalive"); got != want {
			t.Errorf("stream %d has the interval %s s, want %s", i, got, want)
		}
	}
}
