// Package prometheustest starts a Prometheus for a test.
package prometheustest

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"

	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// New starts the Prometheus program that TASKER_TEST_PROMETHEUS names, with this list of
// scrape configurations, in YAML, and returns its URI. It stops with the test. Without
// the variable the test is skipped. If the program does not serve, the test fails.
func New(t testing.TB, scrape string) string {
	t.Helper()
	program := os.Getenv("TASKER_TEST_PROMETHEUS")
	if program == "" {
		t.Skip("TASKER_TEST_PROMETHEUS is not set, so tests with Prometheus are skipped; make test installs one")
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	// The interval bounds a scrape too, however slow the machine is.
	if err := os.WriteFile(config, []byte("global: {scrape_interval: 10s}\nscrape_configs:\n"+scrape), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log")) //nolint:gosec // in the test's directory
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0")
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatalf("TASKER_TEST_PROMETHEUS: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		_ = log.Close()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("log of Prometheus:\n%s", text)
		}
	})
	var uri string
	wait.For(t, "Prometheus to serve", func() bool {
		uri = listenURI(t, log.Name())
		return uri != "" && isReady(t.Context(), uri)
	})
	return uri
}

// listenURI finds the URI in the log, or returns "" if Prometheus does not listen yet.
func listenURI(t testing.TB, log string) string {
	t.Helper()
	text, err := os.ReadFile(log) //nolint:gosec // in the test's directory
	if err != nil {
		t.Fatal(err)
	}
	if at := regexp.MustCompile(`msg="Listening on".* address=(\S+)`).FindSubmatch(text); at != nil {
		return "http://" + string(at[1])
	}
	return ""
}

func isReady(ctx context.Context, uri string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri+"/-/ready", nil)
	if err != nil {
		return false
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
