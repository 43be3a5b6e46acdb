// Package prometheustest gives a test a Prometheus of its own.
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

// New starts the Prometheus that TASKER_TEST_PROMETHEUS names, with this list of
// scrape configurations, in YAML, and returns its URI; it ends with the test. Without
// the variable the test is skipped; if the program does not serve, the test fails.
func New(t testing.TB, scrape string) string {
	t.Helper()
	program := os.Getenv("TASKER_TEST_PROMETHEUS")
	if program == "" {
		t.Skip("TASKER_TEST_PROMETHEUS is not set, so nothing is tested on Prometheus; make test installs one")
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
		if said, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("log of Prometheus:\n%s", said)
		}
	})
	var uri string
	wait.For(t, "Prometheus to serve", func() bool {
		uri = listens(t, log.Name())
		return uri != "" && ready(t.Context(), uri)
	})
	return uri
}

// listens reads in the log where it listens; empty is nowhere yet.
func listens(t testing.TB, log string) string {
	t.Helper()
	said, err := os.ReadFile(log) //nolint:gosec // in the test's directory
	if err != nil {
		t.Fatal(err)
	}
	if at := regexp.MustCompile(`msg="Listening on".* address=(\S+)`).FindSubmatch(said); at != nil {
		return "http://" + string(at[1])
	}
	return ""
}

func ready(ctx context.Context, uri string) bool {
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
