package client_test

import (
	"bytes"
	"context"
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

// serve starts a server with a handler and returns a client of it.
func serve(t *testing.T, f http.HandlerFunc) *client.Client {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	return connect(t, server.URL)
}

// connect returns a client of a server.
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
			requested := make(chan string, 1)
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				requested <- r.RequestURI
				fmt.Fprint(w, "{}")
			})
			if _, err := c.Get(t.Context(), "ping", ref); err != nil {
				t.Fatal(err)
			}
			if got := <-requested; got != want {
				t.Errorf("requested %s, want %s", got, want)
			}
		})
	}
}

func TestNewRefusesInvalidURLs(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "tasker", "127.0.0.1:8888", "ftp://x", "http://"} {
		if _, err := client.New(client.Options{URL: url}); err == nil {
			t.Errorf("New accepts %q", url)
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

// TestTaskRequests checks the method, path and body of the requests that create or change
// a task.
func TestTaskRequests(t *testing.T) {
	t.Parallel()
	requested := make(chan string, 1)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requested <- fmt.Sprintf("%s %s %s", r.Method, r.URL.Path, body)
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
		if got := <-requested; got != want || task.ID != "t" {
			t.Errorf("request %q returns %+v, want request %q", got, task, want)
		}
	}
	if _, err := c.CreateJSON(t.Context(), "ping", []byte(`{"identifier":"x"}`)); err != nil {
		t.Fatal(err)
	}
	if got := <-requested; got != `POST /ping {"identifier":"x"}` {
		t.Errorf("requested %q", got)
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

// TestConnectionsAreReused checks that concurrent callers open one connection each, and
// not one for each request.
func TestConnectionsAreReused(t *testing.T) {
	t.Parallel()
	const callers, rounds = 8, 3
	var arrived sync.WaitGroup
	var opened atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived.Done()
		arrived.Wait() // all requests are open at the same time
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
		var calls sync.WaitGroup
		for range callers {
			calls.Go(func() {
				if _, err := c.Get(t.Context(), "ping", "a"); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
	}
	if n := opened.Load(); n > 2*callers { // a connection that is just being returned is not idle yet
		t.Errorf("%d callers opened %d connections", callers, n)
	}
}

func TestCreateSendsTheSelection(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]client.Request{
		`{"identifier":"1","endpoints":["web-1"]}`:                     {Endpoints: []string{"web-1"}},
		`{"identifier":"1","labels":"role=web"}`:                       {Labels: "role=web"},
		`{"identifier":"1","endpoints":["web-1"],"labels":"role=web"}`: {Endpoints: []string{"web-1"}, Labels: "role=web"},
		`{"identifier":"1"}`:                                           {All: true},
	} {
		sent := make(chan string, 1)
		c := serve(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			sent <- string(body)
			fmt.Fprint(w, "{}")
		})
		r.Identifier = "1"
		if _, err := c.Create(t.Context(), "ping", r); err != nil {
			t.Errorf("%+v: %v", r, err)
		} else if got := <-sent; got != want {
			t.Errorf("sent %s, want %s", got, want)
		}
	}
}

func TestCreateRefusesAnEmptySelection(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]client.Request{
		"nothing":                        {},
		"empty list":                     {Endpoints: []string{}},
		"empty list of an unset setting": {Endpoints: strings.Fields(""), Labels: ""},
		"empty list and labels":          {Endpoints: []string{}, Labels: "role=web"},
		"empty list and all":             {Endpoints: []string{}, All: true},
		"endpoints and all":              {Endpoints: []string{"web-1"}, All: true},
		"labels and all":                 {Labels: "role=web", All: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := serve(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s %s is sent", r.Method, r.URL) })
			if _, err := c.Create(t.Context(), "ping", r); err == nil || !strings.HasPrefix(err.Error(), "the request ") {
				t.Errorf("the error is %v", err)
			}
		})
	}
}
