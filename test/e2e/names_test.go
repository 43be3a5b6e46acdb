package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// agentConfig writes another configuration of an agent.
func (f *fleet) agentConfig(file, endpoint, dataDir string) string {
	f.t.Helper()
	return f.write(file, f.fabric.agents(f.api)+fmt.Sprintf(
		"endpoint: %s\ndata_dir: %q\nmetrics: {port: 0}\nhandlers: {script: {directory: %q}}\n", endpoint, dataDir, f.dir+"/handlers.d"))
}

// A name belongs to one agent at a time: a second one says so and does nothing.
func TestSecondAgentOfTheSameNameIsRefused(t *testing.T) {
	t.Parallel()
	onEachFabric(t, func(t *testing.T, f *fleet) {
		done := newLedger(f)
		first := f.startAgent("web-1")
		second := start(t, "tasker-agent", "run", "--config", f.agentConfig("second.yaml", "web-1", f.dir+"/second"))
		wait.For(t, "the second agent to say why it does not connect", func() bool {
			return strings.Contains(second.log.String(), "in use")
		})
		for i := range 5 {
			a := f.ends(f.post("update-app", fmt.Sprintf(`{"identifier":"%d","endpoints":["web-1"],"payload":0}`, i)))
			if a.Task.Status != tasker.TaskSucceeded {
				t.Errorf("task is %s: %+v", a.Task.Status, a.Responses)
			}
			done.truthful(t, a)
		}
		if log := second.log.String(); strings.Contains(log, "assignment") {
			t.Errorf("the second agent performs tasks")
		}
		// With the first one gone the name is free.
		first.stop(t)
		task := f.post("update-app", `{"identifier":"after","endpoints":["web-1"],"payload":0,"receive_timeout":50}`)
		a := f.ends(task)
		if a.Task.Status != tasker.TaskSucceeded {
			t.Errorf("after the first agent has gone the task is %s: %+v", a.Task.Status, a.Responses)
		}
	})
}

func TestSecondAgentOnTheSameDataIsRefused(t *testing.T) {
	t.Parallel()
	onEachFabric(t, func(t *testing.T, f *fleet) {
		f.startAgent("web-1")
		second := start(t, "tasker-agent", "run", "--config", f.agentConfig("second.yaml", "web-2", f.dir+"/web-1"))
		select {
		case <-second.done:
		case <-time.After(patience):
			t.Fatal("it runs")
		}
		if code := second.cmd.ProcessState.ExitCode(); code == 0 || !strings.Contains(second.log.String(), "web-1") {
			t.Errorf("it exits with %d:\n%s", code, second.log)
		}
	})
}
