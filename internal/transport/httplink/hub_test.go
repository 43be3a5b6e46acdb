package httplink_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
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

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/httplink"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

func TestANameIsHeldForThreeHeartbeats(t *testing.T) {
	t.Parallel()
	s, c := newServer(t), newClock()
	collect(t, s.newHub(t, func(o *httplink.HubOptions) { o.Heartbeat, o.Clock = 10*time.Second, c.time }), nil)
	first := s.open(t, nil, "web-1", "journal-of-web-1")
	if first.status != http.StatusOK {
		t.Fatalf("the first is answered %d %s", first.status, first.problem)
	}
	c.move(20 * time.Second)
	if got := s.post(t, "web-1", reports(t, update("web-1", 1))); got != http.StatusNoContent {
		t.Fatalf("a report is answered %d", got)
	}
	c.move(30*time.Second - 1)
	other := s.open(t, nil, "web-1", "another journal")
	if other.status != http.StatusConflict || !strings.Contains(other.problem, "in use by another agent, last reported 30s ago") {
		t.Errorf("another one, before three heartbeats have passed, is answered %d %s", other.status, other.problem)
	}
	c.move(1)
	other = s.open(t, nil, "web-1", "another journal")
	if other.status != http.StatusOK {
		t.Errorf("another one, when three heartbeats have passed, is answered %d %s", other.status, other.problem)
	}
	if line, err := first.next(); !errors.Is(err, io.EOF) {
		t.Errorf("the first stream goes on with %q, %v", line, err)
	}
	back := s.open(t, nil, "web-1", "journal-of-web-1")
	if back.status != http.StatusConflict {
		t.Errorf("the first one, now late, is answered %d", back.status)
	}
}

// An agent that was told a longer interval, or says so, may be silent for longer.
func TestANameIsHeldByTheAgentsInterval(t *testing.T) {
	t.Parallel()
	s, c := newServer(t), newClock()
	hub := s.newHub(t, func(o *httplink.HubOptions) { o.Heartbeat, o.Clock = 10*time.Second, c.time })
	collect(t, hub, nil)
	first := s.open(t, nil, "web-1", "journal-of-web-1")
	s.post(t, "web-1", reports(t, hello("web-1", "ping")))
	welcome := tasker.Order{Version: 1, Endpoint: "web-1", Welcome: &tasker.Welcome{Session: "s", Now: c.time(), Heartbeat: tasker.Duration(time.Minute)}}
	if err := hub.Send(t.Context(), welcome); err != nil {
		t.Fatalf("Send returned %v", err)
	}
	if line, err := first.next(); !strings.Contains(line, "welcome") {
		t.Fatalf("the stream has %q, %v", line, err)
	}
	c.move(3*time.Minute - 1)
	if other := s.open(t, nil, "web-1", "another journal"); other.status != http.StatusConflict || !strings.Contains(other.problem, "after 3m0s without a report") {
		t.Errorf("another one, before three minutes have passed, is answered %d %s", other.status, other.problem)
	}
	beat := hello("web-1", "ping")
	beat.Heartbeat, beat.Hello = &tasker.Heartbeat{Presence: beat.Hello.Presence}, nil
	beat.Heartbeat.Heartbeat = tasker.Duration(20 * time.Second)
	s.post(t, "web-1", reports(t, beat))
	c.move(time.Minute)
	if other := s.open(t, nil, "web-1", "another journal"); other.status != http.StatusOK {
		t.Errorf("another one, when the agent says a shorter interval, is answered %d %s", other.status, other.problem)
	}
}

func TestTheSameInstanceReplacesItsStream(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	hub := s.newHub(t)
	collect(t, hub, nil)
	first := s.open(t, nil, "web-1", "journal-of-web-1")
	second := s.open(t, nil, "web-1", "journal-of-web-1")
	if line, err := first.next(); !errors.Is(err, io.EOF) {
		t.Errorf("the first stream goes on with %q, %v", line, err)
	}
	s.post(t, "web-1", reports(t, hello("web-1", "ping")))
	if err := hub.Send(t.Context(), assignment("web-1", 1)); err != nil {
		t.Fatalf("Send returned %v", err)
	}
	if line, err := second.next(); !strings.Contains(line, "task-1") {
		t.Errorf("the second stream has %q, %v", line, err)
	}
}

func TestASilentAgentLosesItsStream(t *testing.T) {
	t.Parallel()
	s, c := newServer(t), newClock()
	hub := s.newHub(t, func(o *httplink.HubOptions) {
		o.Heartbeat, o.Keepalive, o.Clock = time.Second, 20*time.Millisecond, c.time
	})
	collect(t, hub, nil)
	watcher := s.open(t, nil, "web-2", "curl") // says nothing, and is given nothing
	agent := s.open(t, nil, "web-1", "journal-of-web-1")
	s.post(t, "web-1", reports(t, hello("web-1", "ping")))
	if err := hub.Send(t.Context(), assignment("web-1", 1)); err != nil {
		t.Fatalf("Send returned %v", err)
	}
	c.move(3 * time.Second)
	if line, err := agent.next(); !strings.Contains(line, "task-1") {
		t.Errorf("the stream has %q, %v", line, err)
	}
	if line, err := agent.next(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream goes on with %q, %v", line, err)
	}
	wait.For(t, "the endpoint to be offline", func() bool {
		return errors.Is(hub.Send(t.Context(), assignment("web-1", 2)), transport.ErrOffline)
	})
	for range 5 {
		if _, err := watcher.lines.ReadString('\n'); err != nil {
			t.Fatalf("the watcher's stream ended: %v", err)
		}
	}
}

func TestNothingPassesBeforeTheHello(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	hub := s.newHub(t)
	collect(t, hub, nil)
	s.open(t, nil, "web-1", "journal-of-web-1")
	stranger := hello("web-1", "ping")
	stranger.Instance = "another journal"
	beat := tasker.Report{Version: 1, Endpoint: "web-1", Instance: "journal-of-web-1", Heartbeat: &tasker.Heartbeat{Presence: stranger.Hello.Presence}}
	for _, r := range []tasker.Report{stranger, beat} {
		s.post(t, "web-1", reports(t, r))
		if err := hub.Send(t.Context(), assignment("web-1", 1)); !errors.Is(err, transport.ErrOffline) {
			t.Errorf("Send returned %v, want ErrOffline", err)
		}
	}
}

func TestRequestsThatGetNoStream(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.newHub(t, func(o *httplink.HubOptions) {
		o.Authorize = func(_ *http.Request, endpoint string) error {
			if endpoint != "web-1" {
				return fmt.Errorf("this token is not that of %s", endpoint)
			}
			return nil
		}
	})
	for _, tt := range []struct {
		endpoint, instance string
		status             int
		problem            string
	}{
		{"web-1", "i", http.StatusOK, ""},
		{"web-2", "i", http.StatusForbidden, "this token is not that of web-2"},
		{"web-1", "", http.StatusBadRequest, "Tasker-Instance is missing"},
		{"", "i", http.StatusBadRequest, "Tasker-Endpoint"},
		{"*all*", "i", http.StatusBadRequest, "Tasker-Endpoint"},
		{"Web", "i", http.StatusBadRequest, "Tasker-Endpoint"},
	} {
		got := s.open(t, nil, tt.endpoint, tt.instance)
		if got.status != tt.status || !strings.Contains(got.problem, tt.problem) {
			t.Errorf("%q, %q: answered %d %s, want %d %s", tt.endpoint, tt.instance, got.status, got.problem, tt.status, tt.problem)
		}
	}
	if got := s.post(t, "web-2", reports(t, update("web-2", 1))); got != http.StatusForbidden {
		t.Errorf("a report of who may not speak is answered %d", got)
	}
}

func TestAStuckAgentHoldsUpNobody(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	hub := s.newHub(t, func(o *httplink.HubOptions) { o.Patience = 0 })
	collect(t, hub, nil)
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /agent/v1/orders HTTP/1.1\r\nHost: x\r\nTasker-Endpoint: stuck\r\nTasker-Instance: journal-of-stuck\r\n\r\n")
	if _, err := bufio.NewReaderSize(conn, 16).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	s.post(t, "stuck", reports(t, hello("stuck", "ping")))
	well := s.open(t, nil, "web-1", "journal-of-web-1")
	s.post(t, "web-1", reports(t, hello("web-1", "ping")))

	// It is given up in its time, which on a busy machine may be any time.
	stuck := func(err error) bool {
		return errors.Is(err, transport.ErrUnavailable) || errors.Is(err, transport.ErrOffline)
	}
	large := json.RawMessage(`"` + strings.Repeat("x", 1<<20-2) + `"`)
	many := make([]tasker.Order, 30) // more than the buffers on the way hold
	for i := range many {
		many[i] = assignment("stuck", i)
		many[i].Assignment.Payload = large
	}
	many = append(many, assignment("web-1", 1))
	var sending sync.WaitGroup
	var got error
	sending.Go(func() { got = hub.Send(context.Background(), many...) })
	if line, err := well.next(); !strings.Contains(line, "task-1") {
		t.Errorf("the one that is well has %q, %v", line, err)
	}
	sending.Wait()
	var partly *transport.SendError
	if !errors.As(got, &partly) || partly.Failed[29] == nil || partly.Failed[30] != nil || !stuck(got) {
		t.Fatalf("Send returned %v, want a SendError with ErrUnavailable or ErrOffline for some of the stuck one's", got)
	}
	// From now on it is known.
	if err := hub.Send(t.Context(), assignment("stuck", 50), assignment(tasker.AllEndpoints, 51)); !stuck(err) {
		t.Errorf("Send returned %v, want ErrUnavailable or ErrOffline", err)
	}
	if line, err := well.next(); !strings.Contains(line, "task-51") {
		t.Errorf("the one that is well has %q, %v", line, err)
	}
	wait.For(t, "the stuck one to be given up", func() bool {
		return errors.Is(hub.Send(t.Context(), assignment("stuck", 52)), transport.ErrOffline)
	})
}

func TestASlowAgentCatchesUp(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	hub := s.newHub(t, func(o *httplink.HubOptions) { o.WriteTimeout = patience })
	collect(t, hub, nil)
	slow := s.open(t, nil, "web-1", "journal-of-web-1")
	s.post(t, "web-1", reports(t, hello("web-1", "ping")))
	many := make([]tasker.Order, 30)
	for i := range many {
		many[i] = assignment("web-1", i)
		many[i].Assignment.Payload = json.RawMessage(`"` + strings.Repeat("x", 1<<20-2) + `"`)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	sending.Go(func() { _ = hub.Send(ctx, many...) })
	if _, err := slow.next(); err != nil {
		t.Fatal(err)
	}
	cancel()
	sending.Wait()
	if err := hub.Send(t.Context(), assignment("web-1", 99)); !errors.Is(err, transport.ErrUnavailable) {
		t.Fatalf("Send to an agent that is behind returned %v", err)
	}
	for range len(many) - 1 {
		if _, err := slow.next(); err != nil {
			t.Fatal(err)
		}
	}
	wait.For(t, "the agent to have caught up", func() bool { return hub.Send(t.Context(), assignment("web-1", 100)) == nil })
	if line, err := slow.next(); !strings.Contains(line, "task-100") {
		t.Errorf("the stream has %q, %v", line, err)
	}
}

// TestStreamsEndWell closes the hub as a control plane that stops would.
func TestStreamsEndWell(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	hub := s.newHub(t)
	collect(t, hub, nil)
	streams := []*orders{s.open(t, nil, "web-1", "i"), s.open(t, nil, "web-2", "i")}
	closed(t, hub)
	for _, o := range streams {
		if line, err := o.next(); err != io.EOF { //nolint:errorlint // an unexpected end wraps it
			t.Errorf("the stream ends with %q, %v", line, err)
		}
	}
	after := s.open(t, nil, "web-1", "i")
	if after.status != http.StatusServiceUnavailable || after.header.Get("Retry-After") == "" {
		t.Errorf("a stream is answered %d, Retry-After %q", after.status, after.header.Get("Retry-After"))
	}
	if got := s.post(t, "web-1", reports(t, update("web-1", 1))); got != http.StatusServiceUnavailable {
		t.Errorf("a report is answered %d", got)
	}
}

// TestServersWithLimits has a stream outlive the server's time limits, with TLS
// over HTTP/1 and HTTP/2.
func TestServersWithLimits(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%t", http2), func(t *testing.T) {
			t.Parallel()
			hub := httplink.NewHub(httplink.HubOptions{Types: types(), Keepalive: 100 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
			srv := httptest.NewUnstartedServer(hub.Handler())
			srv.EnableHTTP2 = http2
			const limit = 8 * time.Second // which a handshake keeps on a busy machine
			srv.Config.ReadTimeout, srv.Config.WriteTimeout = limit, limit
			srv.StartTLS()
			t.Cleanup(srv.Close)
			collect(t, hub, nil)
			s := &server{url: srv.URL}
			o := s.open(t, srv.Client(), "curl", "i")
			for opened := time.Now(); time.Since(opened) < limit+time.Second; {
				if _, err := o.lines.ReadString('\n'); err != nil {
					t.Fatalf("the stream ended: %v", err)
				}
			}

			roots := x509.NewCertPool()
			roots.AddCert(srv.Certificate())
			link := newLink(t, srv.URL, "web-1", func(o *httplink.LinkOptions) { o.TLS = &tls.Config{RootCAs: roots} })
			got := make(chan tasker.Order, 1)
			var receiving sync.WaitGroup
			receiving.Go(func() {
				_ = link.Receive(context.Background(), func(ctx context.Context, orders []tasker.Order) error {
					if len(orders) == 0 {
						return link.Send(ctx, hello("web-1", "ping"))
					}
					got <- orders[0]
					return nil
				})
			})
			wait.For(t, "an order to pass", func() bool { return hub.Send(t.Context(), assignment("web-1", 1)) == nil })
			if o := <-got; o.Assignment.TaskID != "task-1" {
				t.Errorf("order %+v", o)
			}
			closed(t, link)
			receiving.Wait()
			closed(t, hub)
			if _, err := o.next(); !errors.Is(err, io.EOF) {
				t.Errorf("the stream ends with %v", err)
			}
			srv.Client().CloseIdleConnections()
		})
	}
}
