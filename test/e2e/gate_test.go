package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/rollout/gate/prometheustest"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// Prometheus discovers the agents through the control plane and scrapes them. A gate queries
// it about the endpoints of the waves so far, and stops the next wave.
func TestGateOnPrometheus(t *testing.T) {
	t.Parallel()
	withRolloutFleet(t, func(t *testing.T, f *fleet, done ledger) {
		f.usePrometheus("- job_name: agents\n  http_sd_configs: [{url: 'http://" + f.api + "/sd/prometheus', refresh_interval: 1s}]\n")
		f.waitFinished(f.post("command", `{"identifier":"fails","endpoints":["web-2"],"payload":{"argv":["/bin/sh","-c","exit 1"]}}`))
		// Each of these rollouts pauses until its query returns a result.
		f.waitGate("scraped", `count(tasker_agent_connected == 1) == 4`)
		f.waitGate("counted", `tasker_agent_assignments_finished_total{endpoint="web-2",status="failed"} == 1`)

		const gate = `absent_over_time(tasker_agent_assignments_finished_total{endpoint=~"$endpoints",status="failed"}[1h])`
		task := f.post("update-app", fmt.Sprintf(`{"identifier":"gated",%s,"rollout":{"batch":1,"gate":{"promql":%q}}}`, fourEndpoints, gate))
		a := f.waitRollout(task, tasker.RolloutPaused)
		if want := "the gate does not hold: Prometheus returns nothing for " + gate; a.Task.Rollout.Reason != want || a.Task.Rollout.Wave != 2 {
			t.Errorf("paused in wave %d: %s; want in wave 2: %s", a.Task.Rollout.Wave, a.Task.Rollout.Reason, want)
		}
		if n := done.starts(t, task); n != 2 {
			t.Errorf("%d endpoints have started, want the 2 of the first two waves", n)
		}
	})
}

// usePrometheus starts Prometheus with a scrape configuration, and configures it in the
// control plane.
func (f *fleet) usePrometheus(scrape string) {
	f.t.Helper()
	uri := prometheustest.New(f.t, scrape)
	config, err := os.OpenFile(f.config, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(config, "prometheus: {uri: %q}\n", uri); err != nil {
		f.t.Fatal(err)
	}
	if err := config.Close(); err != nil {
		f.t.Fatal(err)
	}
	f.cp.kill(f.t)
	f.startControlPlane()
	for name := range f.agents {
		wait.For(f.t, name+" to be connected again", func() bool { return f.endpoint(name).Connected })
	}
}

// waitGate waits until a rollout with a gate finishes.
func (f *fleet) waitGate(identifier, promQL string) {
	f.t.Helper()
	task := f.post("ping", fmt.Sprintf(`{"identifier":%q,"endpoints":["web-3","web-4"],"rollout":{"batch":1,"gate":{"promql":%q}}}`, identifier, promQL))
	wait.For(f.t, promQL+" to pass", func() bool {
		a := f.get(task.Type, task.ID)
		if a.Task.Rollout.State == tasker.RolloutPaused {
			if !strings.HasPrefix(a.Task.Rollout.Reason, "the gate does not hold: ") {
				f.t.Fatalf("it is paused: %s", a.Task.Rollout.Reason)
			}
			f.mustControl(task, "resume")
		}
		return a.Task.FinishedAt != nil
	})
}
