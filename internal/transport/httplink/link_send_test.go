package httplink_test

import (
	"bytes"
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

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/httplink"
)

// TestReportResponses posts to a server that responds with status while the POST contains a
// report of bad. If named is set, the response names this report. If proxy is set, it is the
// response of a reverse proxy: nothing is refused because of it.
func TestReportResponses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		status  int
		named   bool
		proxy   bool
		bad     []int
		refused []int // with ErrRefused
		failed  []int // with ErrUnavailable
	}{
		"stored":                      {status: http.StatusNoContent},
		"no token":                    {status: http.StatusUnauthorized, bad: []int{3}, failed: []int{0, 1, 2, 3, 4, 5, 6}},
		"not authorized":              {status: http.StatusForbidden, bad: []int{3}, failed: []int{0, 1, 2, 3, 4, 5, 6}},
		"of another endpoint, named":  {status: http.StatusForbidden, named: true, bad: []int{3}, refused: []int{3}},
		"malformed, named":            {status: http.StatusBadRequest, named: true, bad: []int{0, 5, 6}, refused: []int{0, 5, 6}},
		"malformed, not named":        {status: http.StatusBadRequest, bad: []int{0, 4}, refused: []int{0, 4}},
		"too large":                   {status: http.StatusRequestEntityTooLarge, bad: []int{2}, refused: []int{2}},
		"too large for a proxy":       {status: http.StatusRequestEntityTooLarge, proxy: true, bad: []int{2}, failed: []int{2}},
		"malformed for a proxy":       {status: http.StatusBadRequest, proxy: true, bad: []int{2}, failed: []int{0, 1, 2, 3, 4, 5, 6}},
		"not allowed by a proxy":      {status: http.StatusForbidden, proxy: true, bad: []int{2}, failed: []int{0, 1, 2, 3, 4, 5, 6}},
		"all malformed":               {status: http.StatusBadRequest, bad: []int{0, 1, 2, 3, 4, 5, 6}, refused: []int{0, 1, 2, 3, 4, 5, 6}},
		"cannot be stored now":        {status: http.StatusServiceUnavailable, bad: []int{6}, failed: []int{0, 1, 2, 3, 4, 5, 6}},
		"an error":                    {status: http.StatusInternalServerError, bad: []int{6}, failed: []int{0, 1, 2, 3, 4, 5, 6}},
		"a redirection":               {status: http.StatusFound, bad: []int{6}, failed: []int{0, 1, 2, 3, 4, 5, 6}},
		"an unknown path":             {status: http.StatusNotFound, bad: []int{6}, failed: []int{0, 1, 2, 3, 4, 5, 6}},
		"too slow to send everything": {status: http.StatusRequestTimeout, bad: []int{6}, failed: []int{0, 1, 2, 3, 4, 5, 6}},
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
					if tt.proxy {
						w.Header().Set("Content-Type", "text/html")
						w.WriteHeader(tt.status)
						fmt.Fprint(w, `{"report":2}`)
						return
					}
					w.Header().Set("Content-Type", "application/problem+json")
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
				if !slices.Contains(tt.refused, i) && !slices.Contains(tt.failed, i) {
					want = append(want, sent[i].Update.TaskID)
				}
			}
			err := newLink(t, srv.URL, "web-1").Send(t.Context(), sent...)
			var refused, failed []int
			var partly *transport.SendError
			if errors.As(err, &partly) {
				for i := range sent {
					switch {
					case errors.Is(partly.Failed[i], transport.ErrRefused):
						refused = append(refused, i)
					case errors.Is(partly.Failed[i], transport.ErrUnavailable):
						failed = append(failed, i)
					}
				}
			} else if err != nil {
				t.Fatalf("Send returned %v", err)
			}
			if diff := cmp.Diff([][]int{tt.refused, tt.failed}, [][]int{refused, failed}); diff != "" {
				t.Errorf("refused and failed (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want, append([]string{}, stored...)); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
		})
	}
}

func TestInvalidReportsAreNotPosted(t *testing.T) {
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
		t.Errorf("delivered: %v", got)
	}
}

func TestTokenIsSentButNotLogged(t *testing.T) {
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
	fail := errors.New("the file does not exist")
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
