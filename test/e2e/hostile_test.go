package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/MatthiasWiesner/tasker"
)

// maxResident is how much memory the control plane may use at any time, in bytes.
const maxResident = 200 << 20

// One enrolled agent sends anything at any rate. It harms nothing but its own rows: the
// control plane needs little memory, answers every GET with valid JSON, and the tasks of
// another endpoint end as they should.
func TestHostileAgent(t *testing.T) {
	t.Parallel()
	duration := time.Minute
	if text := os.Getenv("TASKER_TEST_HOSTILE"); text != "" {
		var err error
		if duration, err = time.ParseDuration(text); err != nil {
			t.Fatalf("TASKER_TEST_HOSTILE: %v", err)
		}
	}
	for name, makeBackend := range backends() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := makeBackend(t)
			b.auth = true
			f := newFleet(t, b)
			f.startEnrolled("web-1", f.enrolToken(`{}`))
			h := enrolHostile(f)
			ctx, stop := context.WithTimeout(t.Context(), duration)
			defer stop()
			var attack sync.WaitGroup
			attack.Go(func() { h.attack(ctx) })
			tasks := 0
			for ctx.Err() == nil {
				h.addTask(f.post("ping", fmt.Sprintf(`{"identifier":"hostile-%d","endpoints":[%q]}`, tasks, hostileEndpoint)))
				honest := f.post("ping", fmt.Sprintf(`{"identifier":"honest-%d","payload":%d,"endpoints":["web-1"]}`, tasks, tasks))
				a := f.waitFinished(honest)
				if r := a.response("web-1"); a.Task.Status != tasker.TaskSucceeded || len(a.Responses) != 1 || r.Late || r.Presumed {
					t.Errorf("another endpoint's task: %+v", a)
				}
				f.checkAnswers(h)
				tasks++
			}
			stop()
			attack.Wait()
			f.checkAnswers(h)
			t.Logf("%d reports sent, %d bytes; %d tasks of another endpoint succeeded; at most %d MiB resident", h.sent.Load(), h.bytes.Load(), tasks, f.peakMemory()>>20)
			if h.sent.Load() < 100 || tasks < 5 || !f.hasStored() {
				t.Error("too few reports were sent or stored for a test")
			}
		})
	}
}

// hasStored reports whether a report of the hostile agent was stored.
func (f *fleet) hasStored() bool {
	f.t.Helper()
	return !f.endpoint(hostileEndpoint).LastSeen.IsZero()
}

// enrolHostile enrols the hostile agent with a secret that the test knows.
func enrolHostile(f *fleet) *hostileAgent {
	f.t.Helper()
	token := f.enrolToken(`{}`)
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	h := &hostileAgent{t: f.t, api: f.api, secret: base64.RawURLEncoding.EncodeToString(secret), reports: hostileReports(1000)}
	admin := f.token
	f.token = token
	defer func() { f.token = admin }()
	var e tasker.Enrolment
	if code := f.call(http.MethodPost, "/enrol", fmt.Sprintf(`{"endpoint":%q,"secret":%q}`, hostileEndpoint, h.secret), &e); code != http.StatusCreated {
		f.t.Fatalf("POST /enrol answered %d", code)
	}
	h.server = e.Server
	h.addTask(tasker.Task{ID: "unknown"})
	return h
}

// checkAnswers checks the answer to every kind of GET, and the memory of the control plane.
func (f *fleet) checkAnswers(h *hostileAgent) {
	f.t.Helper()
	task := h.task()
	for _, path := range []string{
		"/ping", "/ping?status=running", "/ping/" + task, "/ping/" + task + "/responses/" + hostileEndpoint + "/output",
		"/endpoints", "/endpoints/" + hostileEndpoint, "/sd/prometheus", "/tokens", "/openapi.json", "/readyz",
	} {
		if body := f.getBody(path); task != "unknown" && !json.Valid(body) {
			f.t.Errorf("GET %s: the body is not JSON: %.200q", path, body)
		}
	}
	f.getBody("/metrics")
	if task != "unknown" {
		f.checkEvents(task)
	}
	if peak := f.peakMemory(); peak > maxResident {
		f.t.Fatalf("the control plane had %d MiB of resident memory, want at most %d", peak>>20, maxResident>>20)
	}
	f.checkTargets()
}

// getBody returns the body of a GET, which must be answered with 200 in UTF-8.
func (f *fleet) getBody(path string) []byte {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, "http://"+f.api+path, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+f.token)
	req.Header.Set("Accept", "application/json")
	if path == "/metrics" {
		req.Header.Del("Accept")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatalf("GET %s: %v", path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	isUnknown := strings.Contains(path, "/unknown") && resp.StatusCode == http.StatusNotFound
	if err != nil || resp.StatusCode != http.StatusOK && !isUnknown || !utf8.Valid(body) {
		f.t.Errorf("GET %s answered %d, valid UTF-8: %t, %v: %.500q", path, resp.StatusCode, utf8.Valid(body), err, body)
	}
	return body
}

// checkEvents checks the first event of a task.
func (f *fleet) checkEvents(task string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+f.api+"/ping/"+task+"/events", nil)
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+f.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatalf("events: %v", err)
	}
	defer func() { _ = resp.Body.Close() }()
	for lines := bufio.NewReader(resp.Body); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			f.t.Fatalf("events of a task answered %d, then: %v", resp.StatusCode, err)
		}
		if data, found := bytes.CutPrefix(line, []byte("data: ")); found {
			if !json.Valid(data) || !utf8.Valid(data) {
				f.t.Errorf("event %.500q", data)
			}
			return
		}
	}
}

// checkTargets checks that every scrape target is host:port.
func (f *fleet) checkTargets() {
	f.t.Helper()
	var groups []struct{ Targets []string }
	if code := f.call(http.MethodGet, "/sd/prometheus", "", &groups); code != http.StatusOK {
		f.t.Errorf("GET /sd/prometheus answered %d", code)
	}
	for _, g := range groups {
		if len(g.Targets) != 1 || strings.ContainsAny(g.Targets[0], "/, ") {
			f.t.Errorf("scrape targets %q", g.Targets)
		}
	}
}

// peakMemory returns the highest resident memory of the control plane so far, in bytes.
func (f *fleet) peakMemory() int {
	f.t.Helper()
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(f.cp.cmd.Process.Pid), "status"))
	if err != nil {
		f.t.Fatalf("the control plane has ended: %v", err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kilobytes, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, err := strconv.Atoi(kilobytes)
	if err != nil {
		f.t.Fatal(err)
	}
	return n << 10
}
