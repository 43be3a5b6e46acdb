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
	"github.com/MatthiasWiesner/tasker/controlplane/rollout/gate/prometheustest"
	"github.com/MatthiasWiesner/tasker/controlplane/urlrules"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
	"github.com/MatthiasWiesner/tasker/internal/wait"
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

// TestPromQL asks a Prometheus about three endpoints, one of which is down.
func TestPromQL(t *testing.T) {
	t.Parallel()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "http_errors_total 3") }))
	t.Cleanup(up.Close)
	const nobody = "127.0.0.1:1" // a port that is given to nobody
	at := func(address, endpoint string) string {
		return fmt.Sprintf("  - {targets: [%q], labels: {endpoint: %s}}\n", address, endpoint)
	}
	address := strings.TrimPrefix(up.URL, "http://")
	k := keeper(t, prometheustest.New(t, "- job_name: web\n  static_configs:\n"+at(address, "lb.1")+at(address, "lb-1")+at(nobody, "lb-2")))
	ask := func(promQL string, endpoints ...string) (bool, string) {
		t.Helper()
		holds, why, err := k.Ask(t.Context(), tasker.Gate{PromQL: promQL}, endpoints)
		if err != nil || holds != (why == "") {
			t.Fatalf("%s: %v, %q, %v", promQL, holds, why, err)
		}
		return holds, why
	}
	wait.For(t, "the endpoints to be scraped", func() bool {
		scraped, _ := ask("count(up) == 3 and sum(http_errors_total) == 6")
		return scraped
	})
	const down = `{endpoint="lb-2", instance="` + nobody + `", job="web"}`
	for promQL, want := range map[string]string{
		`http_errors_total < 5`: "",
		`http_errors_total < 3`: "Prometheus says nothing for http_errors_total < 3",
		`up`:                    "Prometheus says 0 of up" + down + " for up",
		`sum(up) > bool 2`:      "Prometheus says 0 for sum(up) > bool 2",
		`up / up`:               "Prometheus says NaN, which is no number, of " + down + " for up / up",
		`3`:                     "",
		`3 - 3`:                 "Prometheus says 0 for 3 - 3",
		`0 / 0`:                 "Prometheus says NaN, which is no number, for 0 / 0",
		`1 / 0`:                 "",
		`"text"`:                `the expression yields a string, neither a vector nor a scalar, for "text"`,
		`up[1m]`:                "the expression yields a matrix, neither a vector nor a scalar, for up[1m]",
		`sum(`:                  "Prometheus refuses the expression: ",
		`label_replace(up, "no name", "", "", "")`: "Prometheus refuses the expression: ",
	} {
		if _, why := ask(promQL); !strings.HasPrefix(why, want) || want == "" && why != "" {
			t.Errorf("%s: %q, want %q", promQL, why, want)
		}
	}
	for want, endpoints := range [][]string{{}, {"lb.1"}, {"lb.1", "lb-1"}, {"lb.1", "lb-1", "lb-2"}} {
		promQL := fmt.Sprintf(`count(up{endpoint=~"$endpoints"}) == %d`, want)
		if want == 0 {
			promQL = `absent(up{endpoint=~"$endpoints"})`
		}
		if holds, why := ask(promQL, endpoints...); !holds {
			t.Errorf("%s for %v: %s", promQL, endpoints, why)
		}
	}
}

// Where no Prometheus answers, the gate does not hold, and says why.
func TestPromQLWithoutPrometheus(t *testing.T) {
	t.Parallel()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no such host", http.StatusBadGateway) }))
	t.Cleanup(proxy.Close)
	for uri, want := range map[string]string{
		"":                   "the control plane knows no Prometheus any more", // it was restarted without
		proxy.URL:            "it could not be asked: the answer of Prometheus (502 Bad Gateway) cannot be read: ",
		"http://127.0.0.1:1": "it could not be asked: Post \"http://127.0.0.1:1/api/v1/query\": dial tcp", // a port that is given to nobody
	} {
		holds, why, err := keeper(t, uri).Ask(t.Context(), tasker.Gate{PromQL: "up"}, nil)
		if err != nil || holds || !strings.HasPrefix(why, want) {
			t.Errorf("%s: %v, %q, %v; want %q", uri, holds, why, err, want)
		}
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
