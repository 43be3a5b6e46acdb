package e2e

import (
	"fmt"
	"os"
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

// A clone of a server, with a copy of its data directory, gets neither its name nor its
// tasks.
func TestClonedAgentIsRefused(t *testing.T) {
	t.Parallel()
	for name, make := range backends() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, make(t))
			done := newSleepScript(f)
			first := f.startAgent("web-1")
			if err := os.CopyFS(f.dir+"/clone", os.DirFS(f.dir+"/web-1")); err != nil {
				t.Fatal(err)
			}
			release := f.hold("perform")
			task := f.post("update-app", `{"identifier":"long","endpoints":["web-1"],"payload":0}`)
			f.waitStatus(task, "web-1", tasker.Running)
			clone := startProgram(t, "tasker-agent", "run", "--config", f.agentConfig("clone.yaml", "web-1", f.dir+"/clone"))
			wait.For(t, "the clone to log why it does not connect", func() bool { return strings.Contains(clone.log.String(), "in use") })
			if name == "http+sqlite" { // a queue does not inform its consumer
				wait.For(t, "the agent to log the clone", func() bool {
					return strings.Contains(first.log.String(), "another process has requested this endpoint's name")
				})
				wait.For(t, "the endpoint to have a duplicate", func() bool { return f.endpoint("web-1").Duplicate })
			}
			if r := f.get("update-app", task.ID).response("web-1"); r.Status != tasker.Running || r.Late {
				t.Errorf("the running task: %+v", r)
			}
			release()
			a := f.waitFinished(task)
			if r := a.response("web-1"); r.Status != tasker.Succeeded || r.Late {
				t.Errorf("the task: %+v", r)
			}
			done.check(t, a)
		})
	}
}
