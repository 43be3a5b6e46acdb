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
	return f.write(file, f.backend.agents(f.api)+fmt.Sprintf(
		"endpoint: %s\ndata_dir: %q\nmetrics: {port: 0}\nhandlers: {script: {directory: %q}}\n", endpoint, dataDir, f.dir+"/handlers.d"))
}

// A second agent with the same name logs the conflict and does nothing.
func TestSecondAgentOfTheSameNameIsRefused(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		done := newSleepScript(f)
		first := f.startAgent("web-1")
		second := startProgram(t, "tasker-agent", "run", "--config", f.agentConfig("second.yaml", "web-1", f.dir+"/second"))
		wait.For(t, "the second agent to log why it does not connect", func() bool {
			return strings.Contains(second.log.String(), "in use")
		})
		for i := range 5 {
			a := f.waitFinished(f.post("update-app", fmt.Sprintf(`{"identifier":"%d","endpoints":["web-1"],"payload":0}`, i)))
			if a.Task.Status != tasker.TaskSucceeded {
				t.Errorf("task is %s: %+v", a.Task.Status, a.Responses)
			}
			done.check(t, a)
		}
		if log := second.log.String(); strings.Contains(log, "assignment") {
			t.Errorf("the second agent performs tasks")
		}
		// The name is free once the first agent has stopped.
		first.stop(t)
		task := f.post("update-app", `{"identifier":"after","endpoints":["web-1"],"payload":0,"receive_timeout":50}`)
		a := f.waitFinished(task)
		if a.Task.Status != tasker.TaskSucceeded {
			t.Errorf("after the end of the first agent the task is %s: %+v", a.Task.Status, a.Responses)
		}
	})
}

func TestSecondAgentOnTheSameDataIsRefused(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		f.startAgent("web-1")
		second := startProgram(t, "tasker-agent", "run", "--config", f.agentConfig("second.yaml", "web-2", f.dir+"/web-1"))
		select {
		case <-second.done:
		case <-time.After(stopTimeout):
			t.Fatal("the second agent runs")
		}
		if code := second.cmd.ProcessState.ExitCode(); code == 0 || !strings.Contains(second.log.String(), "web-1") {
			t.Errorf("exit code %d:\n%s", code, second.log)
		}
	})
}
