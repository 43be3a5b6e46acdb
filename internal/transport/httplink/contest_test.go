package httplink_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker/internal/transport/httplink"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// ofProcess is the transport of a process of an agent.
type ofProcess string

func (p ofProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header.Set("Tasker-Process", string(p))
	return (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
}

// Of two processes with one instance the one that holds the name keeps it, as long as it
// answers probes.
func TestHolderOfANameAnswersProbes(t *testing.T) {
	t.Parallel()
	s, c := newServer(t), newClock()
	hub := s.newHub(t, func(o *httplink.HubOptions) { o.Clock, o.Heartbeat = c.time, time.Hour })
	collect(t, hub, nil)
	open := func(process string) *orders {
		return s.open(t, &http.Client{Transport: ofProcess(process)}, "web-1", "journal-of-web-1")
	}
	expect := func(process string, want int) {
		t.Helper()
		if got := open(process).status; got != want {
			t.Fatalf("process %s gets status %d, want %d", process, got, want)
		}
	}
	expect("first", http.StatusOK)
	expect("second", http.StatusConflict)
	c.move(4 * time.Second)
	expect("second", http.StatusConflict) // the first has a second left to answer
	if got := post(t, &http.Client{Transport: ofProcess("first")}, s.url, "web-1", []byte("[]")); got != http.StatusNoContent {
		t.Fatalf("the answer to a probe has status %d", got)
	}
	c.move(time.Minute)
	expect("second", http.StatusConflict) // probes again
	c.move(4 * time.Second)
	expect("first", http.StatusOK) // a process may always replace its own stream
	expect("second", http.StatusConflict)
	c.move(5 * time.Second)
	expect("second", http.StatusOK) // the first did not answer
	expect("first", http.StatusConflict)
	c.move(5 * time.Second)
	expect("", http.StatusOK) // an agent that does not state its process
}

// A link answers a probe, and reports that its name is contested.
func TestLinkAnswersProbes(t *testing.T) {
	t.Parallel()
	s, c := newServer(t), newClock()
	hub := s.newHub(t, func(o *httplink.HubOptions) { o.Clock, o.Heartbeat = c.time, time.Hour })
	collect(t, hub, nil)
	var contested atomic.Int32
	var connected atomic.Bool
	link := newLink(t, s.url, "web-1", func(o *httplink.LinkOptions) {
		o.Contested = func() { contested.Add(1) }
		o.Observer = func(err error) { connected.Store(err == nil) }
	})
	startReceive(t, link)
	wait.For(t, "the link to be connected", connected.Load)
	other := &http.Client{Transport: ofProcess("other")}
	for i := range int32(3) {
		if got := s.open(t, other, "web-1", "journal-of-web-1").status; got != http.StatusConflict {
			t.Fatalf("another process gets status %d while the link answers", got)
		}
		wait.For(t, "the link to be probed", func() bool { return contested.Load() == i+1 })
		// The answer follows the call. It must have arrived before time passes.
		if err := link.Send(t.Context(), hello("web-1", "ping")); err != nil {
			t.Fatal(err)
		}
		c.move(time.Minute)
	}
}
