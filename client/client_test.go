package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve answers with f and returns a client of it.
func serve(t *testing.T, f http.HandlerFunc) *client.Client {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	return connect(t, server.URL)
}

func connect(t *testing.T, url string) *client.Client {
	t.Helper()
	c, err := client.New(client.Options{URL: url, Token: "s3cret", UserAgent: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestPathsAreEscaped(t *testing.T) {
	t.Parallel()
	for ref, want := range map[string]string{
		"abc":     "/ping/abc",
		"a b?c#d": "/ping/a%20b%3Fc%23d",
		"a/b":     "/ping/a%2Fb",
		".":       "/ping/%2E",
		"..":      "/ping/%2E%2E",
		"...":     "/ping/...",
		"100%":    "/ping/100%25",
		"übergrö": "/ping/%C3%BCbergr%C3%B6",
	} {
		t.Run(ref, func(t *testing.T) {
			t.Parallel()
			asked := make(chan string, 1)
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				asked <- r.RequestURI
				fmt.Fprint(w, "{}")
			})
			if _, err := c.Get(t.Context(), "ping", ref); err != nil {
				t.Fatal(err)
			}
			if got := <-asked; got != want {
				t.Errorf("asked for %s, want %s", got, want)
			}
		})
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		status      int
		body        string
		want        string
		unreachable bool
	}{
		{
			"with faults", 422,
			`{"title":"Unprocessable Entity","status":422,"detail":"body.a is wrong","errors":[{"location":"body.a","message":"is wrong"},{"location":"body.b","message":"is too long"}]}`,
			"422 Unprocessable Entity: body.a is wrong\n  body.b is too long", false,
		},
		{"without a detail", 404, `{"title":"Not Found"}`, "404 Not Found", false},
		{"a proxy's", 502, "<html>bad gateway</html>", "502 Bad Gateway: <html>bad gateway</html>", true},
		{"the database is away", 503, `{"title":"Service Unavailable","detail":"try again"}`, "503 Service Unavailable: try again", true},
		{"a redirect is not followed", 302, "", "302 Found", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "http://evil.example/")
				w.WriteHeader(tt.status)
				fmt.Fprint(w, tt.body)
			})
			_, err := c.Get(t.Context(), "ping", "x")
			var p *client.Problem
			if !errors.As(err, &p) || p.Error() != tt.want || p.Status != tt.status {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if errors.Is(err, client.ErrUnreachable) != tt.unreachable {
				t.Errorf("unreachable is %t in %v", !tt.unreachable, err)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	const nobody = "http://127.0.0.1:1" // a port that is given to nobody
	c := connect(t, nobody)
	if _, err := c.Endpoints(t.Context()); !errors.Is(err, client.ErrUnreachable) || !strings.Contains(err.Error(), nobody) {
		t.Errorf("Endpoints: %v", err)
	}
	err := c.Watch(t.Context(), "ping", "x", func(client.State) { t.Error("nothing was there to show") })
	if !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("Watch: %v", err)
	}
}

func TestNewRefusesWhatIsNoURL(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "tasker", "127.0.0.1:8888", "ftp://x", "http://"} {
		if _, err := client.New(client.Options{URL: url}); err == nil {
			t.Errorf("%q was taken", url)
		}
	}
}

func TestEndpointsReadsAllPages(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer s3cret" {
			t.Errorf("Authorization is %q", r.Header.Get("Authorization"))
		}
		switch r.URL.Query().Get("cursor") {
		case "":
			fmt.Fprint(w, `{"endpoints":[{"name":"a"},{"name":"b"}],"next":"b"}`)
		case "b":
			fmt.Fprint(w, `{"endpoints":[{"name":"c"}],"next":""}`)
		}
	})
	list, err := c.Endpoints(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name)
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, names); diff != "" {
		t.Error(diff)
	}
}

// TestCalls: what is asked of a task is a POST without a body to its own path.
func TestCalls(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 1)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked <- fmt.Sprintf("%s %s %s", r.Method, r.URL.Path, body)
		fmt.Fprint(w, `{"id":"t"}`)
	})
	for want, call := range map[string]func(context.Context, string, string) (tasker.Task, error){
		"POST /ping/x/cancel ": c.Cancel, "POST /ping/x/retry ": c.Retry, "POST /ping/x/pause ": c.Pause,
		"POST /ping/x/resume ": c.Resume, "POST /ping/x/undo ": c.Undo,
	} {
		task, err := call(t.Context(), "ping", "x")
		if err != nil {
			t.Fatal(err)
		}
		if got := <-asked; got != want || task.ID != "t" {
			t.Errorf("%q gives %+v; want %q", got, task, want)
		}
	}
	if _, err := c.CreateJSON(t.Context(), "ping", []byte(`{"identifier":"x"}`)); err != nil {
		t.Fatal(err)
	}
	if got := <-asked; got != `POST /ping {"identifier":"x"}` {
		t.Errorf("asked for %q", got)
	}
}

func TestOutput(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "output of ", r.URL.Path) })
	var b bytes.Buffer
	if err := c.Output(t.Context(), "ping", "x", "web-1", &b); err != nil {
		t.Fatal(err)
	}
	if want := "output of /ping/x/responses/web-1/output"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

// queue holds answers, each for one request. Requests are served by goroutines of
// their own, also one that follows another.
func queue(answers ...string) <-chan string {
	c := make(chan string, len(answers))
	for _, a := range answers {
		c <- a
	}
	return c
}

// TestWatchResumes cuts the stream twice, once within an event. Who is silent is told
// anew by the next one.
func TestWatchResumes(t *testing.T) {
	t.Parallel()
	streams := queue(
		"retry: 1000\n\n"+
			"id: 3\ndata: {\"task\":{\"id\":\"t\",\"status\":\"running\",\"version\":3},\"responses\":[{\"endpoint\":\"b\",\"status\":\"received\",\"silent_since\":\"2026-01-02T03:04:05Z\"},{\"endpoint\":\"a\",\"status\":\"running\"}]}\n\n"+
			": still here\n\n"+
			"id: 4\ndata: {\"task\":{\"id\":\"t\",\"stat",
		"id: 5\ndata: {\"task\":{\"id\":\"t\",\"status\":\"running\",\"version\":5},\"responses\":[{\"endpoint\":\"a\",\"status\":\"succeeded\"}]}\n\n",
		"id: 7\ndata: {\"task\":{\"id\":\"t\",\"status\":\"failed\",\"version\":7,\"finished_at\":\"2026-01-02T03:04:05Z\"},\"responses\":[{\"endpoint\":\"b\",\"status\":\"failed\"}]}\n\n",
	)
	asked := make(chan string, 3)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("Last-Event-ID")
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
		if got := <-asked; got != want {
			t.Errorf("resumed after %q, want %q", got, want)
		}
	}
}

// TestWatchSaysThatItHearsNothing: once a try to resume has failed, until one succeeds.
func TestWatchSaysThatItHearsNothing(t *testing.T) {
	t.Parallel()
	streams := queue(
		"id: 1\ndata: {\"task\":{\"id\":\"t\",\"status\":\"running\"},\"responses\":[]}\n\n",
		"", "",
		": still here\n\n",
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
			line += ", lost"
		}
		shown = append(shown, line)
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"running", "running, lost", "running", "failed"}, shown); diff != "" {
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

func TestWatchOfNoTask(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	var p *client.Problem
	if err := c.Watch(t.Context(), "ping", "x", func(client.State) {}); !errors.As(err, &p) || p.Status != http.StatusNotFound {
		t.Errorf("got %v", err)
	}
}

// Callers that ask at the same time, again and again, open a connection each.
func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	const callers, rounds = 8, 3
	var arrived sync.WaitGroup
	var opened atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived.Done()
		arrived.Wait() // all are being answered
		fmt.Fprint(w, "{}")
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	c := connect(t, server.URL)
	for range rounds {
		arrived.Add(callers)
		var work sync.WaitGroup
		for range callers {
			work.Go(func() {
				if _, err := c.Get(t.Context(), "ping", "a"); err != nil {
					t.Error(err)
				}
			})
		}
		work.Wait()
	}
	if n := opened.Load(); n > 2*callers { // one that is just being given back is not there yet
		t.Errorf("%d callers opened %d connections", callers, n)
	}
}
