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

// A Prometheus finds the agents through the control plane and scrapes them; a gate
// asks it about the waves so far, and keeps the next one from beginning.
func TestGateOnPrometheus(t *testing.T) {
	t.Parallel()
	onRollouts(t, func(t *testing.T, f *fleet, done ledger) {
		f.asksPrometheus("- job_name: agents\n  http_sd_configs: [{url: 'http://" + f.api + "/sd/prometheus', refresh_interval: 1s}]\n")
		f.ends(f.post("command", `{"identifier":"fails","endpoints":["web-2"],"payload":{"argv":["/bin/sh","-c","exit 1"]}}`))
		// Each is a rollout that pauses until what it asks for can be seen.
		f.holds("scraped", `count(tasker_agent_connected == 1) == 4`)
		f.holds("counted", `tasker_agent_assignments_finished_total{endpoint="web-2",status="failed"} == 1`)

		const gate = `absent_over_time(tasker_agent_assignments_finished_total{endpoint=~"$endpoints",status="failed"}[1h])`
		task := f.post("update-app", fmt.Sprintf(`{"identifier":"gated",%s,"rollout":{"batch":1,"gate":{"promql":%q}}}`, four, gate))
		a := f.comes(task, tasker.RolloutPaused)
		if want := "the gate does not hold: Prometheus says nothing for " + gate; a.Task.Rollout.Reason != want || a.Task.Rollout.Wave != 2 {
			t.Errorf("it is paused in wave %d because %s; want in wave 2 because %s", a.Task.Rollout.Wave, a.Task.Rollout.Reason, want)
		}
		if n := done.starts(t, task); n != 2 {
			t.Errorf("%d endpoints have begun, want the 2 of the waves so far", n)
		}
	})
}

// asksPrometheus gives the control plane a Prometheus that scrapes as told.
func (f *fleet) asksPrometheus(scrape string) {
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

// holds waits until a rollout of its own passes a gate.
func (f *fleet) holds(identifier, promQL string) {
	f.t.Helper()
	task := f.post("ping", fmt.Sprintf(`{"identifier":%q,"endpoints":["web-3","web-4"],"rollout":{"batch":1,"gate":{"promql":%q}}}`, identifier, promQL))
	wait.For(f.t, promQL+" to hold", func() bool {
		a := f.get(task.Type, task.ID)
		if a.Task.Rollout.State == tasker.RolloutPaused {
			if !strings.HasPrefix(a.Task.Rollout.Reason, "the gate does not hold: ") {
				f.t.Fatalf("it is paused: %s", a.Task.Rollout.Reason)
			}
			f.asks(task, "resume")
		}
		return a.Task.FinishedAt != nil
	})
}
