package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/api"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
	"github.com/MatthiasWiesner/tasker/controlplane/watch"
)

// calls are one of each kind that need the database.
func calls() [][3]string {
	return [][3]string{
		{http.MethodPost, "/ping", seedBody},
		{http.MethodGet, "/ping"},
		{http.MethodGet, "/ping/1"},
		{http.MethodPost, "/ping/1/cancel"},
		{http.MethodPost, "/ping/1/retry"},
		{http.MethodGet, "/ping/1/events"},
		{http.MethodGet, "/ping/1/responses/a/output"},
		{http.MethodGet, "/endpoints"},
		{http.MethodGet, "/endpoints/a"},
		{http.MethodGet, "/sd/prometheus"},
	}
}

func TestOutageOfTheDatabase(t *testing.T) {
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
	for _, c := range calls() {
		a := s.do(t, c[0], c[1], c[2])
		p := a.problem(t, http.StatusServiceUnavailable)
		if a.header.Get("Retry-After") == "" {
			t.Errorf("%s %s: Retry-After is missing", c[0], c[1])
		}
		if !strings.Contains(p.Detail, "database") || strings.Contains(p.Detail, "127.0.0.1") {
			t.Errorf("%s %s: %s", c[0], c[1], p.Detail)
		}
	}
	if p := s.do(t, http.MethodGet, "/readyz", "").problem(t, http.StatusServiceUnavailable); !strings.Contains(p.Detail, "database") {
		t.Errorf("readiness: %+v", p)
	}
}

func TestFaultsOfTheProgramAreNotTold(t *testing.T) {
	t.Parallel()
	s := serve(t)
	if err := s.store.Close(); err != nil { // which no configuration can bring about
		t.Fatal(err)
	}
	for _, c := range calls() {
		if a := s.do(t, c[0], c[1], c[2]); strings.Contains(string(a.problem(t, 500).Detail), "sql") {
			t.Errorf("%s %s: %s", c[0], c[1], a.body)
		}
	}
	if log := s.log.String(); strings.Count(log, "level=ERROR") != len(calls()) || !strings.Contains(log, "sql: database is closed") {
		t.Errorf("the log does not say why:\n%s", log)
	}
}

func TestReadinessNamesTheParts(t *testing.T) {
	t.Parallel()
	s := serve(t, func(o *api.Options) {
		o.Checks["broker"] = func(context.Context) error { return errors.New("connection refused") }
		o.Checks["silent"] = func(ctx context.Context) error { <-ctx.Done(); return errors.New("no answer") }
	})
	a := s.do(t, http.MethodGet, "/readyz", "")
	if p := a.problem(t, http.StatusServiceUnavailable); !strings.Contains(p.Detail, "broker, silent") {
		t.Errorf("detail: %s", p.Detail)
	}
	if want := `"parts":{"broker":{"ready":false,"error":"connection refused"},"database":{"ready":true},"silent":{"ready":false,"error":"no answer"}}`; !strings.Contains(string(a.body), want) {
		t.Errorf("got %s, want it to hold %s", a.body, want)
	}
}

func TestPanics(t *testing.T) {
	t.Parallel()
	s := serve(t, func(o *api.Options) {
		o.Agents = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/agent/late" {
				fmt.Fprint(w, "half an ")
				_ = http.NewResponseController(w).Flush()
			}
			panic("a fault of the program")
		})
	})
	if a := s.do(t, http.MethodGet, "/agent/early", ""); strings.Contains(a.problem(t, http.StatusInternalServerError).Detail, "fault") {
		t.Errorf("the answer tells too much: %s", a.body)
	}
	resp, err := s.Client().Get(s.URL + "/agent/late")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("a broken answer looks whole: %q", b)
	}
	if log := s.log.String(); strings.Count(log, "a fault of the program") != 2 || !strings.Contains(log, "outage_test.go") {
		t.Errorf("the log does not say what happened:\n%s", log)
	}
}

// proxy makes u lead to a listener that passes everything on to where u led;
// cut closes all connections and the listener.
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
