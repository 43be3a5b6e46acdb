package api_test

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
	"github.com/MatthiasWiesner/tasker/controlplane/watch"
)

type databaseCall struct{ method, path, body string }

// databaseCalls returns one call of each kind that needs the database.
func databaseCalls() []databaseCall {
	return []databaseCall{
		{http.MethodPost, "/ping", seedBody},
		{http.MethodGet, "/ping", ""},
		{http.MethodGet, "/ping/1", ""},
		{http.MethodPost, "/ping/1/cancel", ""},
		{http.MethodPost, "/ping/1/retry", ""},
		{http.MethodGet, "/ping/1/events", ""},
		{http.MethodGet, "/ping/1/responses/a/output", ""},
		{http.MethodGet, "/endpoints", ""},
		{http.MethodGet, "/endpoints/a", ""},
		{http.MethodGet, "/sd/prometheus", ""},
	}
}

func TestUnavailableDatabase(t *testing.T) {
	t.Parallel()
	o := storetest.MySQL(t)
	u, err := url.Parse(o.URI)
	if err != nil {
		t.Fatal(err)
	}
	cut := proxy(t, u)
	o.URI = u.String()
	o.Types = []tasker.TaskType{{Name: "ping", Handler: "ping"}}
	s := serveStore(t, storetest.Open(t, o), watch.NewFanout())
	s.create(t, "/ping", `{"identifier":"1"}`)
	cut()
	for _, c := range databaseCalls() {
		a := s.do(t, c.method, c.path, c.body)
		p := a.problem(t, http.StatusServiceUnavailable)
		if a.header.Get("Retry-After") == "" {
			t.Errorf("%s %s: Retry-After is missing", c.method, c.path)
		}
		if !strings.Contains(p.Detail, "database") || strings.Contains(p.Detail, "127.0.0.1") {
			t.Errorf("%s %s: %s", c.method, c.path, p.Detail)
		}
	}
	if p := s.do(t, http.MethodGet, "/readyz", "").problem(t, http.StatusServiceUnavailable); !strings.Contains(p.Detail, "database") {
		t.Errorf("readiness: %+v", p)
	}
}

func TestInternalErrorsAreNotSent(t *testing.T) {
	t.Parallel()
	s := serve(t)
	if err := s.store.Close(); err != nil { // which never happens in operation
		t.Fatal(err)
	}
	for _, c := range databaseCalls() {
		if a := s.do(t, c.method, c.path, c.body); strings.Contains(string(a.problem(t, 500).Detail), "sql") {
			t.Errorf("%s %s: %s", c.method, c.path, a.body)
		}
	}
	if log := s.log.String(); strings.Count(log, "level=ERROR") != len(databaseCalls()) || !strings.Contains(log, "sql: database is closed") {
		t.Errorf("the log has no reason:\n%s", log)
	}
}

// proxy replaces the host of u by that of a listener, which forwards to the original
// host. cut closes all connections and the listener.
func proxy(t *testing.T, u *url.URL) (cut func()) {
	t.Helper()
	target := u.Host
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u.Host = l.Addr().String()
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		conns []io.Closer
		isCut bool
	)
	connect := func(in net.Conn) {
		mu.Lock()
		defer mu.Unlock()
		if isCut {
			in.Close()
			return
		}
		out, err := net.Dial("tcp", target)
		if err != nil {
			in.Close()
			return
		}
		conns = append(conns, in, out)
		wg.Go(func() { _, _ = io.Copy(in, out) })
		wg.Go(func() { _, _ = io.Copy(out, in) })
	}
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			connect(in)
		}
	})
	cut = sync.OnceFunc(func() {
		l.Close()
		mu.Lock()
		defer mu.Unlock()
		isCut = true
		for _, c := range conns {
			c.Close()
		}
	})
	t.Cleanup(func() {
		cut()
		wg.Wait()
	})
	return cut
}
