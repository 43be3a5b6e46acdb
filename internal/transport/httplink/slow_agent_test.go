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

func TestBlockedAgentDelaysNoOtherAgent(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	hub := s.newHub(t, func(o *httplink.HubOptions) { o.SendTimeout = 0 })
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
	healthy := s.open(t, nil, "web-1", "journal-of-web-1")
	s.post(t, "web-1", reports(t, hello("web-1", "ping")))

	// On a busy machine the write timeout may end the stream at any time.
	isStuck := func(err error) bool {
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
	if line, err := healthy.next(); !strings.Contains(line, "task-1") {
		t.Errorf("the healthy agent's stream has %q, %v", line, err)
	}
	sending.Wait()
	var partly *transport.SendError
	if !errors.As(got, &partly) || partly.Failed[29] == nil || partly.Failed[30] != nil || !isStuck(got) {
		t.Fatalf("Send returned %v, want a SendError with ErrUnavailable or ErrOffline for some orders to the stuck agent", got)
	}
	// The hub now knows that the agent is slow.
	if err := hub.Send(t.Context(), assignment("stuck", 50), assignment(tasker.AllEndpoints, 51)); !isStuck(err) {
		t.Errorf("Send returned %v, want ErrUnavailable or ErrOffline", err)
	}
	if line, err := healthy.next(); !strings.Contains(line, "task-51") {
		t.Errorf("the healthy agent's stream has %q, %v", line, err)
	}
	wait.For(t, "the stuck agent to be offline", func() bool {
		return errors.Is(hub.Send(t.Context(), assignment("stuck", 52)), transport.ErrOffline)
	})
}

func TestSlowAgentCatchesUp(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	hub := s.newHub(t, func(o *httplink.HubOptions) { o.WriteTimeout = timeout })
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
		t.Fatalf("Send to a slow agent returned %v", err)
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

// TestStreamsEndCleanly closes the hub, like a control plane that stops.
func TestStreamsEndCleanly(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	hub := s.newHub(t)
	collect(t, hub, nil)
	streams := []*orders{s.open(t, nil, "web-1", "i"), s.open(t, nil, "web-2", "i")}
	closeConn(t, hub)
	for _, o := range streams {
		if line, err := o.next(); err != io.EOF { //nolint:errorlint // an unexpected end wraps it
			t.Errorf("the stream ends with %q, %v", line, err)
		}
	}
	after := s.open(t, nil, "web-1", "i")
	if after.status != http.StatusServiceUnavailable || after.header.Get("Retry-After") == "" {
		t.Errorf("a stream has the status %d, Retry-After %q", after.status, after.header.Get("Retry-After"))
	}
	if got := s.post(t, "web-1", reports(t, update("web-1", 1))); got != http.StatusServiceUnavailable {
		t.Errorf("a report has the status %d", got)
	}
}

// TestServersWithLimits checks that a stream outlives the time limits of its server, with TLS
// over HTTP/1 and HTTP/2.
func TestServersWithLimits(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%t", http2), func(t *testing.T) {
			t.Parallel()
			hub := httplink.NewHub(httplink.HubOptions{Types: types(), Keepalive: 100 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
			srv := httptest.NewUnstartedServer(hub.Handler())
			srv.EnableHTTP2 = http2
			const limit = 8 * time.Second // long enough for a handshake on a busy machine
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
			closeConn(t, link)
			receiving.Wait()
			closeConn(t, hub)
			if _, err := o.next(); !errors.Is(err, io.EOF) {
				t.Errorf("the stream ends with %v", err)
			}
			srv.Client().CloseIdleConnections()
		})
	}
}
