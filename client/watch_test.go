package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker/client"
)

// queue returns a channel with one response body for each request. Each request is served
// by a goroutine of its own.
func queue(bodies ...string) <-chan string {
	c := make(chan string, len(bodies))
	for _, body := range bodies {
		c <- body
	}
	return c
}

// TestWatchResumes interrupts the stream twice, once within an event. The next stream
// reports silent endpoints again.
func TestWatchResumes(t *testing.T) {
	t.Parallel()
	streams := queue(
		"retry: 1000\n\n"+
			"id: 3\ndata: {\"task\":{\"id\":\"t\",\"status\":\"running\",\"version\":3},\"responses\":[{\"endpoint\":\"b\",\"status\":\"received\",\"silent_since\":\"2026-01-02T03:04:05Z\"},{\"endpoint\":\"a\",\"status\":\"running\"}]}\n\n"+
			": keepalive\n\n"+
			"id: 4\ndata: {\"task\":{\"id\":\"t\",\"stat",
		"id: 5\ndata: {\"task\":{\"id\":\"t\",\"status\":\"running\",\"version\":5},\"responses\":[{\"endpoint\":\"a\",\"status\":\"succeeded\"}]}\n\n",
		"id: 7\ndata: {\"task\":{\"id\":\"t\",\"status\":\"failed\",\"version\":7,\"finished_at\":\"2026-01-02T03:04:05Z\"},\"responses\":[{\"endpoint\":\"b\",\"status\":\"failed\"}]}\n\n",
	)
	resumedFrom := make(chan string, 3)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		resumedFrom <- r.Header.Get("Last-Event-ID")
		fmt.Fprint(w, <-streams)
	})
	var shown []string
	err := c.Watch(t.Context(), "ping", "x", func(s client.State) {
		line := string(s.Task.Status)
		for _, r := range s.Responses {
			line += fmt.Sprintf(" %s=%s", r.Endpoint, r.Status)
			if r.SilentSince != nil {
				line += ",silent"
			}
		}
		shown = append(shown, line)
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"running a=running b=received,silent", "running a=succeeded b=received", "failed a=succeeded b=failed"}
	if diff := cmp.Diff(want, shown); diff != "" {
		t.Errorf("shown (-want +got):\n%s", diff)
	}
	for _, want := range []string{"", "3", "5"} {
		if got := <-resumedFrom; got != want {
			t.Errorf("resumed after %q, want %q", got, want)
		}
	}
}

// TestWatchReportsAnInterruptedStream checks that StreamErr is set once an attempt to
// resume has failed, until one succeeds.
func TestWatchReportsAnInterruptedStream(t *testing.T) {
	t.Parallel()
	streams := queue(
		"id: 1\ndata: {\"task\":{\"id\":\"t\",\"status\":\"running\"},\"responses\":[]}\n\n",
		"", "",
		": keepalive\n\n",
		"id: 2\ndata: {\"task\":{\"id\":\"t\",\"status\":\"failed\",\"finished_at\":\"2026-01-02T03:04:05Z\"},\"responses\":[]}\n\n",
	)
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		stream := <-streams
		if stream == "" {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprint(w, stream)
	})
	var shown []string
	err := c.Watch(t.Context(), "ping", "x", func(s client.State) {
		line := string(s.Task.Status)
		if errors.Is(s.StreamErr, client.ErrUnreachable) {
			line += ", interrupted"
		}
		shown = append(shown, line)
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"running", "running, interrupted", "running", "failed"}, shown); diff != "" {
		t.Errorf("shown (-want +got):\n%s", diff)
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "id: 1\ndata: {\"task\":{\"id\":\"t\",\"status\":\"running\"},\"responses\":[]}\n\n")
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	err := c.Watch(ctx, "ping", "x", func(client.State) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestWatchOfAMissingTask(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	var p *client.Problem
	if err := c.Watch(t.Context(), "ping", "x", func(client.State) {}); !errors.As(err, &p) || p.Status != http.StatusNotFound {
		t.Errorf("got %v", err)
	}
}
