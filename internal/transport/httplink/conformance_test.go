package httplink_test

import (
	"bufio"
	"bytes"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/httplink"
	"github.com/MatthiasWiesner/tasker/internal/transport/transporttest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	transporttest.Run(t, func(t *testing.T) transporttest.Fabric {
		s := newServer(t)
		wire := transporttest.NewProxy(t, s.address)
		return transporttest.Fabric{
			AgentProxy: wire,
			NewHub: func(t testing.TB, types []tasker.TaskType) transport.Hub {
				return s.newHub(t, func(o *httplink.HubOptions) { o.Types = types })
			},
			NewLink: func(t testing.TB, endpoint, instance string, observer transport.Observer) transport.Link {
				return newLink(t, "http://"+wire.Address, endpoint, func(o *httplink.LinkOptions) {
					o.Instance, o.Observer = instance, observer
				})
			},
			PutOrder: s.put,
			PutReport: func(t testing.TB, endpoint string, raw []byte) {
				s.post(t, endpoint, raw)
			},
		}
	})
}

// server serves the current hub, like the port of a control plane across restarts.
type server struct {
	address string
	url     string
	handler atomic.Pointer[http.Handler]

	mu      sync.Mutex
	streams map[string]net.Conn
}

func newServer(t testing.TB) *server {
	t.Helper()
	s := &server{streams: map[string]net.Conn{}}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	s.address, s.url = srv.Listener.Addr().String(), srv.URL
	return s
}

// newHub starts a hub, which replaces the previous one.
func (s *server) newHub(t testing.TB, change ...func(*httplink.HubOptions)) *httplink.Hub {
	t.Helper()
	o := httplink.HubOptions{Types: types(), Keepalive: 500 * time.Millisecond, SendTimeout: timeout, Log: slog.New(slog.DiscardHandler)}
	for _, c := range change {
		c(&o)
	}
	hub := httplink.NewHub(o)
	t.Cleanup(func() { closeConn(t, hub) })
	handler := hub.Handler()
	s.handler.Store(&handler)
	return hub
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	handler := s.handler.Load()
	if handler == nil {
		http.Error(w, "no hub yet", http.StatusServiceUnavailable)
		return
	}
	if r.Method == http.MethodGet {
		w = &hijackRecorder{w, func(conn net.Conn) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.streams[r.Header.Get("Tasker-Endpoint")] = conn
		}}
	}
	(*handler).ServeHTTP(w, r)
}

// put writes a line to the endpoint's stream.
func (s *server) put(t testing.TB, endpoint string, raw []byte) {
	t.Helper()
	s.mu.Lock()
	stream := s.streams[endpoint]
	s.mu.Unlock()
	if _, err := stream.Write(append(bytes.Clone(raw), '\n')); err != nil {
		t.Errorf("write to the stream: %v", err)
	}
}

// post posts a body as reports of the endpoint and returns the status of the response.
func (s *server) post(t testing.TB, endpoint string, body []byte) int {
	t.Helper()
	return post(t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, s.url, endpoint, body)
}

func post(t testing.TB, client *http.Client, url, endpoint string, body []byte) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/agent/v1/reports", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Tasker-Endpoint", endpoint)
	req.Header.Set("Tasker-Instance", "journal-of-"+endpoint)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// hijackRecorder passes the connection that a hub hijacks to the test, which can then write
// to the stream.
type hijackRecorder struct {
	http.ResponseWriter
	hijacked func(net.Conn)
}

func (w *hijackRecorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.hijacked(conn)
	}
	return conn, buffers, err
}

func (w *hijackRecorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func newLink(t testing.TB, uri, endpoint string, change ...func(*httplink.LinkOptions)) *httplink.Link {
	t.Helper()
	o := httplink.LinkOptions{URI: uri, Endpoint: endpoint, Instance: "journal-of-" + endpoint, Log: slog.New(slog.DiscardHandler)}
	for _, c := range change {
		c(&o)
	}
	link, err := httplink.NewLink(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeConn(t, link) })
	return link
}

func closeConn(t testing.TB, c interface{ Close() error }) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Errorf("Close returned %v", err)
	}
}

func types() []tasker.TaskType {
	return []tasker.TaskType{{Name: "ping", Handler: "ping"}, {Name: "facts", Handler: "facts"}}
}
