package e2e

import (
	"strings"
	"syscall"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// An agent that is stopped while it cannot connect keeps its reports.
func TestStoppedAgentKeepsReports(t *testing.T) {
	t.Parallel()
	withProxies(t, func(t *testing.T, f *fleet, w *proxies) {
		done := newSleepScript(f)
		agent := f.startAgent("web-1")
		release := f.hold("perform")
		task := f.post("update-app", `{"identifier":"unreported","endpoints":["web-1"],"payload":0}`)
		f.waitStatus(task, "web-1", tasker.Running)
		w.agents.Refuse()
		release()
		wait.For(t, "the script to end", func() bool {
			_, ended := done.counts(t, task.ID, "web-1", 1)
			return ended == 1
		})
		agent.stop(t)
		if code := agent.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("the agent exits with %d:\n%s", code, agent.log)
		}
		if r := f.get(task.Type, task.ID).response("web-1"); r.Status != tasker.Running {
			t.Errorf("the response is %s (%s) before the agent has reported", r.Status, r.Reason)
		}
		w.agents.Accept(t)
		f.startAgent("web-1")
		a := f.waitFinished(task)
		if a.Task.Status != tasker.TaskSucceeded {
			t.Errorf("task is %s: %+v", a.Task.Status, a.Responses)
		}
		done.check(t, a)
	})
}

// SIGINT stops a control plane that waits for its database, and an agent that waits for
// its control plane.
func TestStopWhileWaiting(t *testing.T) {
	t.Parallel()
	withProxies(t, func(t *testing.T, f *fleet, w *proxies) {
		w.agents.Refuse()
		waiting := []*process{startProgram(t, "tasker-agent", "run", "--config", f.agentConfig("waiting.yaml", "web-1", f.dir+"/waiting"))}
		wait.For(t, "the agent to wait", func() bool { return strings.Contains(waiting[0].log.String(), "not connected") })
		if w.database != nil {
			f.cp.stop(t)
			w.database.Refuse()
			cp := startProgram(t, "tasker-controlplane", "run", "--config", f.config)
			wait.For(t, "the control plane to wait", func() bool { return strings.Contains(cp.log.String(), `"WARN"`) })
			waiting = append(waiting, cp)
		}
		for _, p := range waiting {
			p.signal(t, syscall.SIGINT)
			<-p.done
			if code := p.cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("%s exits with %d:\n%s", p.cmd.Path, code, p.log)
			}
		}
	})
}
