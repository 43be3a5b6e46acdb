package httplink_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/httplink"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

func TestNameIsReservedForThreeHeartbeats(t *testing.T) {
	t.Parallel()
	s, c := newServer(t), newClock()
	collect(t, s.newHub(t, func(o *httplink.HubOptions) { o.Heartbeat, o.Clock = 10*time.Second, c.time }), nil)
	first := s.open(t, nil, "web-1", "journal-of-web-1")
	if first.status != http.StatusOK {
		t.Fatalf("the first stream has the status %d %s", first.status, first.problem)
	}
	c.move(20 * time.Second)
	if got := s.post(t, "web-1", reports(t, update("web-1", 1))); got != http.StatusNoContent {
		t.Fatalf("a report has the status %d", got)
	}
	c.move(30*time.Second - 1)
	other := s.open(t, nil, "web-1", "another journal")
	if other.status != http.StatusConflict || !strings.Contains(other.problem, "in use by another agent, which last reported 30s ago") {
		t.Errorf("another agent, before three heartbeats have passed: status %d %s", other.status, other.problem)
	}
	c.move(1)
	other = s.open(t, nil, "web-1", "another journal")
	if other.status != http.StatusOK {
		t.Errorf("another agent, after three heartbeats: status %d %s", other.status, other.problem)
	}
	if line, err := first.next(); !errors.Is(err, io.EOF) {
		t.Errorf("the first stream continues with %q, %v", line, err)
	}
	back := s.open(t, nil, "web-1", "journal-of-web-1")
	if back.status != http.StatusConflict {
		t.Errorf("the first agent, after it lost its name: status %d", back.status)
	}
}

// The holder of a shared credential cannot report for a live agent. A caller with a
// credential of its own can, because no other server has it.
func TestReportsOfAnotherInstanceThanTheLiveOneAreRefused(t *testing.T) {
	t.Parallel()
	for _, own := range []bool{false, true} {
		s, c := newServer(t), newClock()
		collect(t, s.newHub(t, func(o *httplink.HubOptions) {
			o.Heartbeat, o.Clock = 10*time.Second, c.time
			o.HasOwnCredential = func(*http.Request) bool { return own }
		}), nil)
		s.open(t, nil, "web-1", "journal-of-web-1")
		goodbye := tasker.Report{Version: 1, Endpoint: "web-1", Instance: "another journal", Goodbye: &tasker.Goodbye{}}
		forged := update("web-1", 1)
		forged.Instance = "another journal"
		want := http.StatusConflict
		if own {
			want = http.StatusNoContent
		}
		for _, r := range []tasker.Report{goodbye, forged} {
			if got := s.post(t, "web-1", reports(t, r)); got != want {
				t.Errorf("own credential %t: a report of another instance has the status %d, want %d", own, got, want)
			}
		}
		if got := s.post(t, "web-1", reports(t, update("web-1", 1))); got != http.StatusNoContent {
			t.Errorf("own credential %t: a report of the agent has the status %d", own, got)
		}
		c.move(30 * time.Second)
		if got := s.post(t, "web-1", reports(t, forged)); got != http.StatusNoContent {
			t.Errorf("own credential %t: a report of another instance after the silence of the agent has the status %d", own, got)
		}
	}
}

// An agent with a longer heartbeat interval may be silent for longer.
func TestNameReservationFollowsHeartbeatInterval(t *testing.T) {
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
		t.Errorf("another agent, before three minutes have passed: status %d %s", other.status, other.problem)
	}
	beat := hello("web-1", "ping")
	beat.Heartbeat, beat.Hello = &tasker.Heartbeat{Presence: beat.Hello.Presence}, nil
	beat.Heartbeat.Heartbeat = tasker.Duration(20 * time.Second)
	s.post(t, "web-1", reports(t, beat))
	c.move(time.Minute)
	if other := s.open(t, nil, "web-1", "another journal"); other.status != http.StatusOK {
		t.Errorf("another agent, after the first has reported a shorter interval: status %d %s", other.status, other.problem)
	}
}

func TestSameInstanceReplacesStream(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	hub := s.newHub(t)
	collect(t, hub, nil)
	first := s.open(t, nil, "web-1", "journal-of-web-1")
	second := s.open(t, nil, "web-1", "journal-of-web-1")
	if line, err := first.next(); !errors.Is(err, io.EOF) {
		t.Errorf("the first stream continues with %q, %v", line, err)
	}
	s.post(t, "web-1", reports(t, hello("web-1", "ping")))
	if err := hub.Send(t.Context(), assignment("web-1", 1)); err != nil {
		t.Fatalf("Send returned %v", err)
	}
	if line, err := second.next(); !strings.Contains(line, "task-1") {
		t.Errorf("the second stream has %q, %v", line, err)
	}
}

func TestSilentAgentLosesStream(t *testing.T) {
	t.Parallel()
	s, c := newServer(t), newClock()
	hub := s.newHub(t, func(o *httplink.HubOptions) {
		o.Heartbeat, o.Keepalive, o.Clock = time.Second, 20*time.Millisecond, c.time
	})
	collect(t, hub, nil)
	watcher := s.open(t, nil, "web-2", "curl") // sends no reports and gets no orders
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
		t.Errorf("the stream continues with %q, %v", line, err)
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

func TestNoOrdersBeforeHello(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	hub := s.newHub(t)
	collect(t, hub, nil)
	s.open(t, nil, "web-1", "journal-of-web-1")
	other := hello("web-1", "ping")
	other.Instance = "another journal"
	beat := tasker.Report{Version: 1, Endpoint: "web-1", Instance: "journal-of-web-1", Heartbeat: &tasker.Heartbeat{Presence: other.Hello.Presence}}
	for _, r := range []tasker.Report{other, beat} {
		s.post(t, "web-1", reports(t, r))
		if err := hub.Send(t.Context(), assignment("web-1", 1)); !errors.Is(err, transport.ErrOffline) {
			t.Errorf("Send returned %v, want ErrOffline", err)
		}
	}
}

func TestRefusedStreamRequests(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.newHub(t, func(o *httplink.HubOptions) {
		o.Authorize = func(_ *http.Request, endpoint string) error {
			if endpoint != "web-1" {
				return fmt.Errorf("this token does not belong to %s", endpoint)
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
		{"web-2", "i", http.StatusForbidden, "this token does not belong to web-2"},
		{"web-1", "", http.StatusBadRequest, "Tasker-Instance is missing"},
		{"", "i", http.StatusBadRequest, "Tasker-Endpoint"},
		{"*all*", "i", http.StatusBadRequest, "Tasker-Endpoint"},
		{"Web", "i", http.StatusBadRequest, "Tasker-Endpoint"},
	} {
		got := s.open(t, nil, tt.endpoint, tt.instance)
		if got.status != tt.status || !strings.Contains(got.problem, tt.problem) {
			t.Errorf("%q, %q: status %d %s, want %d %s", tt.endpoint, tt.instance, got.status, got.problem, tt.status, tt.problem)
		}
	}
	if got := s.post(t, "web-2", reports(t, update("web-2", 1))); got != http.StatusForbidden {
		t.Errorf("a report of an endpoint that is not authorized has the status %d", got)
	}
}
