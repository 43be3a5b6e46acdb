package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// newPrefixProxy starts a reverse proxy that serves a control plane below /tasker/, and
// returns the URL below which it does.
func newPrefixProxy(t *testing.T, plane string) string {
	t.Helper()
	target, err := url.Parse(plane)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/tasker/", http.StripPrefix("/tasker", &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
	}))
	proxy := httptest.NewServer(mux)
	t.Cleanup(proxy.Close)
	return proxy.URL + "/tasker"
}

func TestPageBehindAPrefix(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"root": "/", "docs": "/docs/"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plane, admin := startPlane(t)
			browser := newBrowser(t)
			browser.createTask(newPrefixProxy(t, plane)+path, admin)
			browser.checkErrors()
		})
	}
}

func TestLinksBehindAPrefix(t *testing.T) {
	t.Parallel()
	plane, admin := startPlane(t)
	base := newPrefixProxy(t, plane)
	do := func(method, url, body string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+admin)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		return resp
	}
	created := do(http.MethodPost, base+"/ping", `{"identifier":"1"}`)
	location, err := created.Location()
	if err != nil || created.StatusCode != http.StatusCreated {
		t.Fatalf("POST answered %s, %v", created.Status, err)
	}
	task := do(http.MethodGet, location.String(), "")
	if body, err := io.ReadAll(task.Body); err != nil || task.StatusCode != http.StatusOK || !strings.Contains(string(body), `"identifier":"1"`) {
		t.Errorf("GET %s: %s %s, %v", location, task.Status, body, err)
	}
}

// TestProgramsBehindAPrefix enrols and runs an agent, and creates a task, through the proxy.
func TestProgramsBehindAPrefix(t *testing.T) {
	t.Parallel()
	plane, admin := startPlane(t)
	base, dir := newPrefixProxy(t, plane), t.TempDir()
	run := func(program string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(programs, program), args...) //nolint:gosec // our own programs
		cmd.Env = append(os.Environ(), "TASKER_URL="+base+"/", "TASKER_TOKEN="+admin)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", program, args, err, out)
		}
		return string(out)
	}
	enrol := strings.Fields(run("tasker", "enrol-token", "create")) // tasker-agent enrol --server URL --token TOKEN
	if len(enrol) != 6 || !strings.HasSuffix(enrol[3], "/tasker") {
		t.Fatalf("the command to run on the servers is %q", enrol)
	}
	config := filepath.Join(dir, "agent.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "data_dir: %q\nmetrics: {port: 0}\n", dir), 0o600); err != nil {
		t.Fatal(err)
	}
	run("tasker-agent", "enrol", "--config", config, "--server", base, "--token", enrol[5], "--endpoint", "web-1")
	startProgram(t, "tasker-agent", "run", "--config", config)
	c := connectTo(t, base, admin)
	wait.For(t, "web-1 to be connected", func() bool {
		e, err := c.Endpoint(t.Context(), "web-1")
		return err == nil && e.Connected
	})
	if out := run("tasker", "task", "create", "ping", "-e", "web-1", "--watch"); !strings.Contains(out, "succeeded") {
		t.Errorf("watching the task shows\n%s", out)
	}
}
