package httplink_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/httplink"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// testAuthorizer provides an Authorize function that accepts every request until revoke.
type testAuthorizer struct {
	reason atomic.Pointer[error]
	// called is invoked with the number of each call, from 1, after the decision but
	// before it is returned; nil does nothing.
	called func(n int32)
	n      atomic.Int32
}

func (a *testAuthorizer) revoke(reason error) { a.reason.Store(&reason) }
func (a *testAuthorizer) restore()            { a.reason.Store(nil) }

func (a *testAuthorizer) authorize(*http.Request, string) error {
	reason := a.reason.Load()
	if n := a.n.Add(1); a.called != nil {
		a.called(n)
	}
	if reason != nil {
		return *reason
	}
	return nil
}

func (a *testAuthorizer) setOption(o *httplink.HubOptions) { o.Authorize = a.authorize }

// isUnauthorized reports whether the last state is ErrUnauthorized with this text.
func (o *observer) isUnauthorized(text string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.states) == 0 {
		return false
	}
	last := o.states[len(o.states)-1]
	return errors.Is(last, transport.ErrUnauthorized) && strings.Contains(last.Error(), text)
}

var errRevoked = errors.New("endpoint web-1 was revoked")

func TestRevokeAndRestore(t *testing.T) {
	t.Parallel()
	s, g := newServer(t), &testAuthorizer{}
	hub := s.newHub(t, g.setOption)
	collect(t, hub, nil)
	var seen observer
	link := newLink(t, s.url, "web-1", func(o *httplink.LinkOptions) { o.Observer = seen.observe })
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = link.Receive(context.Background(), func(ctx context.Context, orders []tasker.Order) error {
			if len(orders) == 0 {
				return link.Send(ctx, hello("web-1", "ping"))
			}
			return nil
		})
	}()
	t.Cleanup(func() {
		closeConn(t, link)
		<-done
	})
	wait.For(t, "an order to pass", func() bool { return hub.Send(t.Context(), assignment("web-1", 1)) == nil })
	hub.Disconnect("web-2") // no such stream

	g.revoke(errRevoked)
	hub.Disconnect("web-1")
	if err := hub.Send(t.Context(), assignment("web-1", 2)); !errors.Is(err, transport.ErrOffline) {
		t.Errorf("Send to an endpoint that is not authorized returned %v, want ErrOffline", err)
	}
	wait.For(t, "the observer to be notified", func() bool { return seen.isUnauthorized("unauthorized: endpoint web-1 was revoked") })
	if err := link.Send(t.Context(), update("web-1", 1)); !errors.Is(err, transport.ErrUnavailable) || !errors.Is(err, transport.ErrUnauthorized) {
		t.Errorf("Send of the agent returned %v, want ErrUnavailable and ErrUnauthorized", err)
	}

	g.restore()
	wait.For(t, "an order to pass again", func() bool { return hub.Send(t.Context(), assignment("web-1", 3)) == nil })
}

// TestRevokeWhileStreamOpens revokes an endpoint after a call of Authorize has accepted it,
// but before the call returns.
func TestRevokeWhileStreamOpens(t *testing.T) {
	t.Parallel()
	for call, status := range map[int32]int{1: http.StatusForbidden, 2: http.StatusServiceUnavailable} {
		t.Run(fmt.Sprint("call ", call), func(t *testing.T) {
			t.Parallel()
			s, g := newServer(t), &testAuthorizer{}
			var hub *httplink.Hub
			g.called = func(n int32) {
				if n == call {
					g.revoke(errRevoked)
					hub.Disconnect("web-1")
				}
			}
			hub = s.newHub(t, g.setOption)
			stream := s.open(t, nil, "web-1", "i")
			if stream.status != status {
				t.Errorf("status %d %s, want %d", stream.status, stream.problem, status)
			}
			if line, err := stream.next(); !errors.Is(err, io.EOF) {
				t.Errorf("the stream continues with %q, %v", line, err)
			}
			if again := s.open(t, nil, "web-1", "i"); again.status != http.StatusForbidden {
				t.Errorf("the next stream has the status %d", again.status)
			}
		})
	}
}

func TestUnauthorizedAgentReplacesNoStream(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	hub := s.newHub(t, func(o *httplink.HubOptions) {
		o.Authorize = func(r *http.Request, endpoint string) error {
			if r.Header.Get("User-Agent") == "intruder" {
				return fmt.Errorf("this token does not belong to %s", endpoint)
			}
			return nil
		}
	})
	collect(t, hub, nil)
	stream := s.open(t, nil, "web-1", "journal-of-web-1")
	s.post(t, "web-1", reports(t, hello("web-1", "ping")))
	intruder := &http.Client{Transport: userAgent("intruder")}
	if got := s.open(t, intruder, "web-1", "journal-of-web-1"); got.status != http.StatusForbidden {
		t.Errorf("the intruder's stream has the status %d", got.status)
	}
	if err := hub.Send(t.Context(), assignment("web-1", 1)); err != nil {
		t.Errorf("Send returned %v", err)
	}
	if line, err := stream.next(); !strings.Contains(line, "task-1") {
		t.Errorf("the stream has %q, %v", line, err)
	}
}

// userAgent is a RoundTripper that sets the User-Agent header.
type userAgent string

func (a userAgent) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", string(a))
	return (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
}

func TestDisconnectEndsWaitingSend(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	// No timeout may end the Send.
	hub := s.newHub(t, func(o *httplink.HubOptions) { o.SendTimeout, o.WriteTimeout = time.Hour, time.Hour })
	collect(t, hub, nil)
	stream := s.open(t, nil, "web-1", "journal-of-web-1")
	s.post(t, "web-1", reports(t, hello("web-1", "ping")))
	many := make([]tasker.Order, 30)
	for i := range many {
		many[i] = assignment("web-1", i)
		many[i].Assignment.Payload = json.RawMessage(`"` + strings.Repeat("x", 1<<20-2) + `"`)
	}
	var sending sync.WaitGroup
	sending.Go(func() {
		if err := hub.Send(t.Context(), many...); err == nil {
			t.Error("Send to an agent that reads nothing more returned nil")
		}
	})
	if line, err := stream.next(); !strings.Contains(line, "task-0") {
		t.Errorf("the stream has %.100q, %v", line, err)
	}
	hub.Disconnect("web-1")
	sending.Wait()
	if err := hub.Send(t.Context(), assignment("web-1", 99)); !errors.Is(err, transport.ErrOffline) {
		t.Errorf("Send returned %v, want ErrOffline", err)
	}
}

func TestReportsAreAuthorizedAgainAfterReading(t *testing.T) {
	t.Parallel()
	s, g := newServer(t), &testAuthorizer{}
	calls := make(chan struct{}, 2)
	g.called = func(int32) { calls <- struct{}{} }
	batches := collect(t, s.newHub(t, g.setOption), nil)
	body, rest := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/agent/v1/reports", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Tasker-Endpoint", "web-1")
	req.Header.Set("Tasker-Instance", "i")
	var writing sync.WaitGroup
	writing.Go(func() {
		<-calls
		g.revoke(errRevoked)
		_, err := rest.Write(reports(t, update("web-1", 1)))
		_ = rest.CloseWithError(err)
	})
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	writing.Wait()
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden || len(batches()) != 0 {
		t.Errorf("status %d, and %d batches were delivered", resp.StatusCode, len(batches()))
	}
}

func TestAuthorizationIsUnavailable(t *testing.T) {
	t.Parallel()
	s, g := newServer(t), &testAuthorizer{}
	hub := s.newHub(t, g.setOption)
	collect(t, hub, nil)
	g.revoke(fmt.Errorf("%w: the database is unavailable", transport.ErrUnavailable))
	if got := s.open(t, nil, "web-1", "i"); got.status != http.StatusServiceUnavailable || !strings.Contains(got.problem, "the database is unavailable") {
		t.Errorf("a stream has the status %d %s", got.status, got.problem)
	}
	if got := s.post(t, "web-1", reports(t, update("web-1", 1))); got != http.StatusServiceUnavailable {
		t.Errorf("a report has the status %d", got)
	}
	err := newLink(t, s.url, "web-1").Send(t.Context(), update("web-1", 1))
	if !errors.Is(err, transport.ErrUnavailable) || errors.Is(err, transport.ErrUnauthorized) {
		t.Errorf("Send returned %v, want ErrUnavailable and not ErrUnauthorized", err)
	}
}

func TestUnauthorizedResponses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status int
		proxy  bool
		want   bool
	}{
		{http.StatusUnauthorized, false, true},
		{http.StatusForbidden, false, true},
		{http.StatusBadRequest, false, false},
		{http.StatusConflict, false, false},
		{http.StatusServiceUnavailable, false, false},
		{http.StatusBadGateway, false, false},
		// A reverse proxy does not know the agent's credential.
		{http.StatusUnauthorized, true, false},
		{http.StatusForbidden, true, false},
	} {
		status, want, contentType := tt.status, tt.want, "application/problem+json"
		if tt.proxy {
			contentType = "text/html"
		}
		t.Run(contentType+" "+http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			var handler http.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", contentType)
				w.WriteHeader(status)
			})
			s.handler.Store(&handler)
			var seen observer
			link := newLink(t, s.url, "web-1", func(o *httplink.LinkOptions) { o.Observer = seen.observe })
			startReceive(t, link)
			wait.For(t, "the observer to be notified", func() bool { return seen.hasError("") })
			seen.mu.Lock()
			if got := slices.ContainsFunc(seen.states, func(err error) bool { return errors.Is(err, transport.ErrUnauthorized) }); got != want {
				t.Errorf("the observer received %v", seen.states)
			}
			seen.mu.Unlock()
			if err := link.Send(t.Context(), update("web-1", 1)); errors.Is(err, transport.ErrUnauthorized) != want {
				t.Errorf("Send returned %v", err)
			}
		})
	}
}
