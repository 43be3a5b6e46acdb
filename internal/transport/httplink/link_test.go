package httplink_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/httplink"
	"github.com/MatthiasWiesner/tasker/internal/transport/transporttest"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// observer keeps what it was told.
type observer struct {
	mu   sync.Mutex
	told []error
}

func (o *observer) observe(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.told = append(o.told, err)
}

// heard says whether it was ever told a reason that contains text.
func (o *observer) heard(text string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.ContainsFunc(o.told, func(err error) bool { return err != nil && strings.Contains(err.Error(), text) })
}

// sessions is how often it was told that one has begun.
func (o *observer) sessions() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, err := range o.told {
		if err == nil {
			n++
		}
	}
	return n
}

// listen receives with a handler that takes everything, until the test ends.
func listen(t testing.TB, link *httplink.Link) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = link.Receive(context.Background(), func(context.Context, []tasker.Order) error { return nil })
	}()
	t.Cleanup(func() {
		closed(t, link)
		<-done
	})
}

func TestOptionsOfALink(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t"
	for _, tt := range []struct{ uri, endpoint, instance string }{
		{"", "web-1", "i"},
		{"127.0.0.1:8888", "web-1", "i"},
		{"amqp://host", "web-1", "i"},
		{"http://", "web-1", "i"},
		{"http://user:" + secret + "@host", "web-1", "i"},
		{"http://user:" + secret + "@ho st", "web-1", "i"},
		{"http://host", "Web", "i"},
		{"http://host", "", "i"},
		{"http://host", "web-1", ""},
	} {
		_, err := httplink.NewLink(httplink.LinkOptions{URI: tt.uri, Endpoint: tt.endpoint, Instance: tt.instance})
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("NewLink(%q, %q, %q) returned %v", tt.uri, tt.endpoint, tt.instance, err)
		}
	}
}

func TestALinkUnderAPath(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	hub := s.newHub(t)
	batches := collect(t, hub, nil)
	srv := httptest.NewServer(http.StripPrefix("/tasker", s))
	t.Cleanup(srv.Close)
	link := newLink(t, srv.URL+"/tasker/", "web-1")
	if err := link.Send(t.Context(), update("web-1", 1)); err != nil || len(batches()) != 1 {
		t.Errorf("Send returned %v", err)
	}
}

func TestSilenceOfTheHubIsNoticed(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	collect(t, s.newHub(t, func(o *httplink.HubOptions) { o.Keepalive = 200 * time.Millisecond }), nil)
	wire := transporttest.NewProxy(t, s.address)
	var seen observer
	listen(t, newLink(t, "http://"+wire.Address, "web-1", func(o *httplink.LinkOptions) { o.Observer = seen.observe }))
	wait.For(t, "a session", func() bool { return seen.sessions() > 0 })
	wire.Stall()
	wait.For(t, "the silence to be noticed", func() bool { return seen.heard("no sign of life from the control plane for 600ms") })
	before := seen.sessions()
	wire.Resume()
	wait.For(t, "the next session", func() bool { return seen.sessions() > before })
}

func TestSignsOfLifeKeepAStream(t *testing.T) {
	t.Parallel()
	var beats atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.Header().Set("Tasker-Keepalive", "3")
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			_, _ = w.Write([]byte("\n"))
			_ = http.NewResponseController(w).Flush()
			select {
			case <-tick.C:
				beats.Add(1)
			case <-r.Context().Done():
				return
			}
		}
	}))
	t.Cleanup(srv.Close)
	var seen observer
	listen(t, newLink(t, srv.URL, "web-1", func(o *httplink.LinkOptions) { o.Observer = seen.observe }))
	wait.For(t, "signs of life for longer than the silence that is allowed", func() bool { return beats.Load() >= 11 })
	if seen.sessions() != 1 || seen.heard("") {
		t.Errorf("the observer was told %v", seen.told)
	}
}

func TestWhyThereIsNoStream(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"a wrong token": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "no", http.StatusUnauthorized)
		}, "unauthorized: the control plane does not accept the token"},
		"a problem": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"detail":"this token is web-2's"}`)
		}, "this token is web-2's"},
		"a name in use": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, `{"detail":"in use by another agent"}`)
		}, "in use by another agent"},
		"an error without words": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
		}, "/agent/v1/orders answered 502 Bad Gateway"},
		"a redirection": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example/", http.StatusMovedPermanently)
		}, "set server.uri to the URI that leads to https://elsewhere.example/"},
		"another server": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "<html>")
		}, "is not a control plane that agents can connect to"},
		"an error that does not end": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Tasker-Keepalive", "0.05")
			w.WriteHeader(http.StatusInternalServerError)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, "answered 500"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(tt.answer)
			t.Cleanup(srv.Close)
			var seen observer
			listen(t, newLink(t, srv.URL, "web-1", func(o *httplink.LinkOptions) { o.Observer = seen.observe }))
			wait.For(t, "the observer to be told", func() bool { return seen.heard("") })
			if !seen.heard(tt.want) {
				t.Errorf("the observer was told %v, want %q", seen.told, tt.want)
			}
			if seen.sessions() != 0 {
				t.Error("the observer was told of a session")
			}
		})
	}
}

// TestAnswersToReports has a server that answers with status as long as some
// report of the POST is one of bad, and names it where it should.
func TestAnswersToReports(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		status  int
		named   bool
		bad     []int
		refused []int
		away    []int
	}{
		"stored":                      {status: http.StatusNoContent},
		"no token":                    {status: http.StatusUnauthorized, bad: []int{3}, away: []int{0, 1, 2, 3, 4, 5, 6}},
		"may not speak":               {status: http.StatusForbidden, bad: []int{3}, away: []int{0, 1, 2, 3, 4, 5, 6}},
		"of another, named":           {status: http.StatusForbidden, named: true, bad: []int{3}, refused: []int{3}},
		"malformed, named":            {status: http.StatusBadRequest, named: true, bad: []int{0, 5, 6}, refused: []int{0, 5, 6}},
		"malformed, not named":        {status: http.StatusBadRequest, bad: []int{0, 4}, refused: []int{0, 4}},
		"too large for a proxy":       {status: http.StatusRequestEntityTooLarge, bad: []int{2}, refused: []int{2}},
		"all of them":                 {status: http.StatusBadRequest, bad: []int{0, 1, 2, 3, 4, 5, 6}, refused: []int{0, 1, 2, 3, 4, 5, 6}},
		"cannot be stored now":        {status: http.StatusServiceUnavailable, bad: []int{6}, away: []int{0, 1, 2, 3, 4, 5, 6}},
		"an error":                    {status: http.StatusInternalServerError, bad: []int{6}, away: []int{0, 1, 2, 3, 4, 5, 6}},
		"a redirection":               {status: http.StatusFound, bad: []int{6}, away: []int{0, 1, 2, 3, 4, 5, 6}},
		"a page that is not there":    {status: http.StatusNotFound, bad: []int{6}, away: []int{0, 1, 2, 3, 4, 5, 6}},
		"too slow to send everything": {status: http.StatusRequestTimeout, bad: []int{6}, away: []int{0, 1, 2, 3, 4, 5, 6}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var stored []string
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var got []tasker.Report
				if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
					t.Errorf("the body: %v", err)
				}
				for i, r := range got {
					if !slices.ContainsFunc(tt.bad, func(b int) bool { return r.Update.TaskID == fmt.Sprint("task-", b) }) {
						continue
					}
					w.WriteHeader(tt.status)
					if tt.named {
						fmt.Fprintf(w, `{"detail":"no","report":%d}`, i)
					}
					return
				}
				mu.Lock()
				defer mu.Unlock()
				for _, r := range got {
					stored = append(stored, r.Update.TaskID)
				}
				w.WriteHeader(http.StatusNoContent)
			}))
			t.Cleanup(srv.Close)
			sent := make([]tasker.Report, 7)
			want := []string{}
			for i := range sent {
				sent[i] = update("web-1", i)
				if !slices.Contains(tt.refused, i) && !slices.Contains(tt.away, i) {
					want = append(want, sent[i].Update.TaskID)
				}
			}
			err := newLink(t, srv.URL, "web-1").Send(t.Context(), sent...)
			var refused, away []int
			var partly *transport.SendError
			if errors.As(err, &partly) {
				for i := range sent {
					switch {
					case errors.Is(partly.Failed[i], transport.ErrRefused):
						refused = append(refused, i)
					case errors.Is(partly.Failed[i], transport.ErrUnavailable):
						away = append(away, i)
					}
				}
			} else if err != nil {
				t.Fatalf("Send returned %v", err)
			}
			if diff := cmp.Diff([][]int{tt.refused, tt.away}, [][]int{refused, away}); diff != "" {
				t.Errorf("refused and away (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want, append([]string{}, stored...)); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReportsThatAreNotPosted(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	batches := collect(t, s.newHub(t), nil)
	huge := update("web-1", 2)
	huge.Update.Error = strings.Repeat("x", 8<<20)
	broken := update("web-1", 3)
	broken.Update.Result = json.RawMessage(`{`)
	err := newLink(t, s.url, "web-1").Send(t.Context(), update("web-1", 0), update("web-2", 1), huge, broken, update("web-1", 4))
	var partly *transport.SendError
	if !errors.As(err, &partly) || len(partly.Failed) != 3 {
		t.Fatalf("Send returned %v", err)
	}
	for i := 1; i <= 3; i++ {
		if !errors.Is(partly.Failed[i], transport.ErrRefused) {
			t.Errorf("report %d: %v, want ErrRefused", i, partly.Failed[i])
		}
	}
	if got := batches(); len(got) != 1 || len(got[0]) != 2 {
		t.Errorf("handed over: %v", got)
	}
}

func TestTheTokenIsSentAndNotShown(t *testing.T) {
	t.Parallel()
	token := "s3cr3t"
	var log bytes.Buffer
	var allowed atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer s3cr3t" || !allowed.Load() {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(srv.Close)
	fail := errors.New("the file is not there")
	link := newLink(t, srv.URL, "web-1", func(o *httplink.LinkOptions) {
		o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		o.Token = func() (string, error) { return token, fail }
	})
	if err := link.Send(t.Context(), update("web-1", 1)); !errors.Is(err, fail) || !errors.Is(err, transport.ErrUnavailable) {
		t.Errorf("without a token, Send returned %v", err)
	}
	fail = nil
	for _, token = range []string{"s3cr3t\n", "s3cr3t\x00", "s3cr3t"} {
		err := link.Send(t.Context(), update("web-1", 1))
		if !errors.Is(err, transport.ErrUnavailable) || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("with a wrong token, Send returned %v", err)
		}
	}
	allowed.Store(true)
	token = "s3cr3t\n" // as in a file
	if err := link.Send(t.Context(), update("web-1", 1)); err != nil {
		t.Errorf("Send returned %v", err)
	}
	if strings.Contains(log.String(), "s3cr3t") {
		t.Errorf("the token is in the log: %s", log.String())
	}
}
