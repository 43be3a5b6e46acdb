package httplink_test

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/internal/reportrules"
	"github.com/MatthiasWiesner/tasker/internal/transport/httplink"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// A report that breaks the rules is refused with its number, and no part of the batch is
// stored.
func TestReportsThatBreakTheRules(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	batches := collect(t, s.newHub(t), nil)
	good := string(reports(t, update("web-1", 1)))
	for name, report := range map[string]string{
		"a negative attempt":  `{"v":1,"endpoint":"web-1","update":{"task_id":"t","attempt":-1,"seq":1,"status":"running"}}`,
		"an unknown status":   `{"v":1,"endpoint":"web-1","update":{"task_id":"t","attempt":1,"seq":1,"status":"done"}}`,
		"a long label":        `{"v":1,"endpoint":"web-1","hello":{"labels":{"` + strings.Repeat("x", 64) + `":""}}}`,
		"too many values":     `{"v":1,"endpoint":"web-1","hello":{"unfinished":[` + strings.Repeat("{},", reportrules.MaxValues) + `{}]}}`,
		"more than 2 MiB":     `{"v":1,"endpoint":"web-1","hello":{"version":"` + strings.Repeat("x", reportrules.MaxReport) + `"}}`,
		"a hello and goodbye": `{"v":1,"endpoint":"web-1","hello":{},"goodbye":{}}`,
	} {
		body := "[" + strings.Trim(good, "[]") + "," + report + "]"
		if got := s.post(t, "web-1", []byte(body)); got != http.StatusUnprocessableEntity {
			t.Errorf("%s has the status %d, want 422", name, got)
		}
	}
	if n := len(batches()); n != 0 {
		t.Errorf("%d batches delivered", n)
	}
	if got := s.post(t, "web-1", []byte(strings.Repeat("{}", 3000))); got != http.StatusBadRequest {
		t.Errorf("3000 reports have the status %d, want 400", got)
	}
}

// An endpoint that sends too fast is asked to send again later. Others are not affected.
func TestFastEndpointIsSlowedDown(t *testing.T) {
	t.Parallel()
	s, c := newServer(t), newClock() // no time passes, however slow this machine is
	collect(t, s.newHub(t, func(o *httplink.HubOptions) { o.Clock = c.time }), nil)
	body := append(reports(t, update("web-1", 1)), bytes.Repeat([]byte(" "), 200<<10)...)
	wait.For(t, "the endpoint to be slowed down", func() bool {
		switch got := s.post(t, "web-1", body); got {
		case http.StatusTooManyRequests:
			return true
		case http.StatusNoContent:
		default:
			t.Fatalf("status %d", got)
		}
		return false
	})
	if got := s.post(t, "web-2", reports(t, update("web-2", 1))); got != http.StatusNoContent {
		t.Errorf("another endpoint has the status %d", got)
	}
}

// An endpoint with many unfinished requests does not take the memory of others.
func TestSlowRequestsDoNotKeepOthersFromReporting(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	collect(t, s.newHub(t), nil)
	for range 40 {
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST /agent/v1/reports HTTP/1.1\r\nHost: x\r\nTasker-Endpoint: web-1\r\nTasker-Instance: i\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n")
	}
	wait.For(t, "the endpoint to have too many requests", func() bool {
		return s.post(t, "web-1", reports(t, update("web-1", 1))) == http.StatusTooManyRequests
	})
	for i := range 20 {
		if got := s.post(t, "web-2", reports(t, update("web-2", i))); got != http.StatusNoContent {
			t.Fatalf("another endpoint has the status %d", got)
		}
	}
}
