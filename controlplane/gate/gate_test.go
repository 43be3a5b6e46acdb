package gate

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/urlrules"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func keeper(t *testing.T, uri string) *Keeper {
	t.Helper()
	k, err := New(uri, urlrules.Rules{Setting: "gates.allow"}.Check)
	if err != nil {
		t.Fatal(err)
	}
	k.retry = backoff.Policy{First: time.Millisecond, Cap: time.Millisecond}
	k.http.Timeout = time.Minute // however slow the machine is
	t.Cleanup(k.Close)
	return k
}

// TestURL asks a server that answers in every way.
func TestURL(t *testing.T) {
	t.Parallel()
	var flaky atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/good":
			w.WriteHeader(http.StatusNoContent)
		case "/moved":
			http.Redirect(w, r, "/good", http.StatusFound)
		case "/flaky":
			if flaky.Add(1) < tries {
				panic(http.ErrAbortHandler)
			}
		case "/dead":
			panic(http.ErrAbortHandler)
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(s.Close)
	for path, want := range map[string]struct {
		holds bool
		why   string
	}{
		"/good": {true, ""}, "/flaky": {true, ""}, "/bad": {false, "503"}, "/moved": {false, "302"}, "/dead": {false, "could not be asked"},
	} {
		holds, why, err := keeper(t, "").Ask(t.Context(), tasker.Gate{URL: s.URL + path}, nil)
		if err != nil || holds != want.holds || !strings.Contains(why, want.why) || holds != (why == "") {
			t.Errorf("%s: %v, %q, %v; want %v", path, holds, why, err, want)
		}
	}
}

// TestPromQL asks what speaks as Prometheus does: it answers each expression with
// itself as a result, and notes it.
func TestPromQL(t *testing.T) {
	t.Parallel()
	results := map[string]string{
		"nothing": `{"resultType":"vector","result":[]}`,
		"one":     `{"resultType":"vector","result":[{"metric":{"job":"web"},"value":[1,"1"]}]}`,
		"zero":    `{"resultType":"vector","result":[{"metric":{"job":"web","__name__":"up","instance":"lb-2"},"value":[1,"0"]}]}`,
		"sum":     `{"resultType":"vector","result":[{"metric":{},"value":[1,"0"]}]}`,
		"scalar":  `{"resultType":"scalar","result":[1,"3"]}`,
		"naught":  `{"resultType":"scalar","result":[1,"0"]}`,
		"ratios":  `{"resultType":"vector","result":[{"metric":{},"value":[1,"2"]},{"metric":{"job":"web"},"value":[1,"NaN"]}]}`,
		"nan":     `{"resultType":"scalar","result":[1,"NaN"]}`,
		"endless": `{"resultType":"scalar","result":[1,"+Inf"]}`,
		"text":    `{"resultType":"string","result":[1,"x"]}`,
	}
	var last atomic.Value
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.FormValue("query")
		last.Store(query)
		result, found := results[strings.Fields(query)[0]]
		w.Header().Set("Content-Type", "application/json")
		if !found {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"status":"error","errorType":"bad_data","error":"parse error"}`)
			return
		}
		fmt.Fprintf(w, `{"status":"success","data":%s}`, result)
	}))
	t.Cleanup(s.Close)
	k := keeper(t, s.URL)
	for query, want := range map[string]struct {
		holds bool
		why   string
	}{
		"one": {true, ""}, "scalar": {true, ""}, "nothing": {false, "says nothing"}, "zero": {false, "Prometheus says 0 of up{instance=\"lb-2\", job=\"web\"} for zero"}, "sum": {false, "Prometheus says 0 for sum"}, "naught": {false, "says 0 for"},
		"ratios": {false, "Prometheus says NaN, which is no number, of {job=\"web\"} for ratios"}, "nan": {false, "says NaN, which is no number, for nan"}, "endless": {true, ""},
		"text": {false, "neither"}, "wrong": {false, "parse error"},
	} {
		holds, why, err := k.Ask(t.Context(), tasker.Gate{PromQL: query}, nil)
		if err != nil || holds != want.holds || !strings.Contains(why, want.why) || holds != (why == "") {
			t.Errorf("%s: %v, %q, %v; want %v", query, holds, why, err, want)
		}
	}
	if _, _, err := k.Ask(t.Context(), tasker.Gate{PromQL: `one {endpoint=~"$endpoints"}`}, []string{"lb-1", "a.b"}); err != nil {
		t.Fatal(err)
	}
	if got := last.Load(); got != `one {endpoint=~"lb-1|a\\.b"}` {
		t.Errorf("Prometheus was asked for %s", got)
	}
	if holds, why, _ := keeper(t, "").Ask(t.Context(), tasker.Gate{PromQL: "one"}, nil); holds || !strings.Contains(why, "knows no Prometheus") {
		t.Errorf("without a Prometheus: %v, %s", holds, why)
	}
}

// What is not allowed any more is not asked.
func TestRulesAreAskedEachTime(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(s.Close)
	k := keeper(t, "")
	rules, err := urlrules.New("gates.allow", []string{s.URL + "/allowed"})
	if err != nil {
		t.Fatal(err)
	}
	k.allowed = rules.Check
	for path, want := range map[string]string{"/allowed/by/that": "", "/other": "the URL is not among those that gates.allow"} {
		holds, why, err := k.Ask(t.Context(), tasker.Gate{URL: s.URL + path}, nil)
		if err != nil || holds != (want == "") || !strings.HasPrefix(why, want) {
			t.Errorf("%s: %v, %q, %v; want %q", path, holds, why, err, want)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("%d were asked, want 1", n)
	}
}

func TestAskEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	t.Cleanup(s.Close)
	u, err := url.JoinPath(s.URL, "/")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := keeper(t, "").Ask(ctx, tasker.Gate{URL: u}, nil); err == nil {
		t.Error("no error")
	}
}
