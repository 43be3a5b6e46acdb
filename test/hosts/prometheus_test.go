package hosts

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// Prometheus on one host discovers the agents on two others, and scrapes them. An agent that
// listens on loopback is left out.
func TestPrometheusScrapesAgentsOnOtherHosts(t *testing.T) {
	t.Parallel()
	skipUnlessEnabled(t)
	program, err := exec.LookPath(os.Getenv("TASKER_TEST_PROMETHEUS"))
	if err != nil {
		t.Fatalf("TASKER_TEST_PROMETHEUS: %v", err)
	}
	f := newFleet(t, overHTTP())
	if got := f.targets(); len(got) != 0 {
		t.Errorf("with metrics on loopback, the targets are %v", got)
	}
	for _, host := range []string{one, two} {
		f.configure(host, agent, agentConfig+"metrics: {address: 0.0.0.0}\n")
		f.sh(host, "systemctl restart "+agent)
	}
	want := []string{f.do("ip", one) + ":9464", f.do("ip", two) + ":9464"}
	slices.Sort(want)
	wait.For(t, "the agents to be listed", func() bool { return slices.Equal(f.targets(), want) })

	f.copy(plane, program, "/usr/local/bin/prometheus", "755")
	f.put(plane, "/srv/prometheus.yml", fmt.Sprintf(`global: {scrape_interval: 1s}
scrape_configs:
  - job_name: tasker
    http_sd_configs:
      - url: https://127.0.0.1:8888/sd/prometheus
        refresh_interval: 1s
        authorization: {type: Bearer, credentials: %q}
        tls_config: {insecure_skip_verify: true}
`, f.token), "600")
	f.sh(plane, "systemd-run --unit=prometheus /usr/local/bin/prometheus --config.file=/srv/prometheus.yml --storage.tsdb.path=/srv/data --web.listen-address=0.0.0.0:9090")
	t.Cleanup(func() {
		if t.Failed() {
			out, err := f.try("", "exec", plane, "journalctl", "--no-pager", "--unit=prometheus")
			t.Logf("log of Prometheus (%v):\n%s", err, out)
		}
	})
	wait.For(t, "Prometheus to scrape both agents", func() bool { return slices.Equal(f.scraped(), want) })
}

// targets returns the addresses of the service discovery, sorted.
func (f *fleet) targets() []string {
	f.t.Helper()
	var groups []struct{ Targets []string }
	if code := f.call(http.MethodGet, "/sd/prometheus", "", &groups); code != http.StatusOK {
		f.t.Fatalf("GET /sd/prometheus answered %d", code)
	}
	var all []string
	for _, g := range groups {
		all = append(all, g.Targets...)
	}
	slices.Sort(all)
	return all
}

// scraped returns the agents whose metrics Prometheus has, sorted.
func (f *fleet) scraped() []string {
	client := &http.Client{Transport: &http.Transport{DialContext: f.dial, DisableKeepAlives: true}}
	url := fmt.Sprintf("http://%s:9090/api/v1/query?query=tasker_agent_connected", strings.TrimSpace(f.do("ip", plane)))
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		f.t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil // not started yet
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil
	}
	var answer struct {
		Data struct {
			Result []struct{ Metric map[string]string }
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil // not ready yet
	}
	var all []string
	for _, r := range answer.Data.Result {
		all = append(all, r.Metric["instance"])
	}
	slices.Sort(all)
	return all
}
