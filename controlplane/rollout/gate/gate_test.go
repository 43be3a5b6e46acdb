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

func checker(t *testing.T, uri string) *Checker {
	t.Helper()
	c, err := newChecker(uri, urlrules.Rules{Setting: "gates.allow"}.Check, time.Minute) // however slow the machine is
	if err != nil {
		t.Fatal(err)
	}
	c.retry = backoff.Policy{First: time.Millisecond, Cap: time.Millisecond}
	t.Cleanup(c.Close)
	return c
}

// TestURL covers each response of a server.
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
		passes bool
		reason string
	}{
		"/good": {true, ""}, "/flaky": {true, ""}, "/bad": {false, "503"}, "/moved": {false, "302"}, "/dead": {false, "could not be evaluated"},
	} {
		passes, reason, err := checker(t, "").Check(t.Context(), tasker.Gate{URL: s.URL + path}, nil)
		if err != nil || passes != want.passes || !strings.Contains(reason, want.reason) || passes != (reason == "") {
			t.Errorf("%s: %v, %q, %v; want %v", path, passes, reason, err, want)
		}
	}
}

// TestPromQL queries a Prometheus with three endpoints, one of which is down.
func TestPromQL(t *testing.T) {
	t.Parallel()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "http_errors_total 3") }))
	t.Cleanup(up.Close)
	const unused = "127.0.0.1:1" // no program listens there
	at := func(address, endpoint string) string {
		return fmt.Sprintf("  - {targets: [%q], labels: {endpoint: %s}}\n", address, endpoint)
	}
	address := strings.TrimPrefix(up.URL, "http://")
	c := checker(t, prometheustest.New(t, "- job_name: web\n  static_configs:\n"+at(address, "lb.1")+at(address, "lb-1")+at(unused, "lb-2")))
	check := func(promQL string, endpoints ...string) (bool, string) {
		t.Helper()
		passes, reason, err := c.Check(t.Context(), tasker.Gate{PromQL: promQL}, endpoints)
		if err != nil || passes != (reason == "") {
			t.Fatalf("%s: %v, %q, %v", promQL, passes, reason, err)
		}
		return passes, reason
	}
	wait.For(t, "the endpoints to be scraped", func() bool {
		scraped, _ := check("count(up) == 3 and sum(http_errors_total) == 6")
		return scraped
	})
	const down = `{endpoint="lb-2", instance="` + unused + `", job="web"}`
	for promQL, want := range map[string]string{
		`http_errors_total < 5`: "",
		`http_errors_total < 3`: "Prometheus returns nothing for http_errors_total < 3",
		`up`:                    "Prometheus returns 0 of up" + down + " for up",
		`sum(up) > bool 2`:      "Prometheus returns 0 for sum(up) > bool 2",
		`up / up`:               "Prometheus returns NaN (not a number) of " + down + " for up / up",
		`3`:                     "",
		`3 - 3`:                 "Prometheus returns 0 for 3 - 3",
		`0 / 0`:                 "Prometheus returns NaN (not a number) for 0 / 0",
		`1 / 0`:                 "",
		`"text"`:                `it could not be evaluated: bad_response: unexpected value type "string"`,
		`up[1m]`:                "the expression yields a matrix, neither a vector nor a scalar, for up[1m]",
		`sum(`:                  "Prometheus refuses the expression: ",
		`label_replace(up, "no name", "", "", "")`: "Prometheus refuses the expression: ",
	} {
		if _, reason := check(promQL); !strings.HasPrefix(reason, want) || want == "" && reason != "" {
			t.Errorf("%s: %q, want %q", promQL, reason, want)
		}
	}
	for want, endpoints := range [][]string{{}, {"lb.1"}, {"lb.1", "lb-1"}, {"lb.1", "lb-1", "lb-2"}} {
		promQL := fmt.Sprintf(`count(up{endpoint=~"$endpoints"}) == %d`, want)
		if want == 0 {
			promQL = `absent(up{endpoint=~"$endpoints"})`
		}
		if passes, reason := check(promQL, endpoints...); !passes {
			t.Errorf("%s for %v: %s", promQL, endpoints, reason)
		}
	}
}

// Without a response of Prometheus a gate fails with the reason.
func TestPromQLWithoutPrometheus(t *testing.T) {
	t.Parallel()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no such host", http.StatusBadGateway) }))
	t.Cleanup(proxy.Close)
	for uri, want := range map[string]string{
		"":                   "the control plane has no Prometheus any more", // it was restarted without one
		proxy.URL:            "it could not be evaluated: server_error: server error: 502",
		"http://127.0.0.1:1": "it could not be evaluated: Post \"http://127.0.0.1:1/api/v1/query\": dial tcp", // no program listens there
	} {
		passes, reason, err := checker(t, uri).Check(t.Context(), tasker.Gate{PromQL: "up"}, nil)
		if err != nil || passes || !strings.HasPrefix(reason, want) {
			t.Errorf("%s: %v, %q, %v; want %q", uri, passes, reason, err, want)
		}
	}
}

// A gate whose URL is not permitted any more gets no request.
func TestURLIsCheckedEachTime(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	t.Cleanup(s.Close)
	c := checker(t, "")
	rules, err := urlrules.New("gates.allow", []string{s.URL + "/allowed"})
	if err != nil {
		t.Fatal(err)
	}
	c.checkURL = rules.Check
	for path, want := range map[string]string{"/allowed/by/that": "", "/other": "the URL is not among those that gates.allow"} {
		passes, reason, err := c.Check(t.Context(), tasker.Gate{URL: s.URL + path}, nil)
		if err != nil || passes != (want == "") || !strings.HasPrefix(reason, want) {
			t.Errorf("%s: %v, %q, %v; want %q", path, passes, reason, err, want)
		}
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

// A response beyond the bound is not read.
func TestLongResponseOfPrometheus(t *testing.T) {
	t.Parallel()
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for err := error(nil); err == nil; {
			_, err = fmt.Fprintln(w, strings.Repeat(" ", maxResponse/8))
		}
	}))
	t.Cleanup(endless.Close)
	passes, reason, err := checker(t, endless.URL).Check(t.Context(), tasker.Gate{PromQL: "up"}, nil)
	if err != nil || passes || !strings.HasPrefix(reason, "it could not be evaluated: bad_response: ") {
		t.Errorf("%v, %q, %v", passes, reason, err)
	}
}

func TestCheckEndsWithContext(t *testing.T) {
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
	if _, _, err := checker(t, "").Check(ctx, tasker.Gate{URL: u}, nil); err == nil {
		t.Error("no error")
	}
}
