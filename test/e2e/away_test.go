package e2e

import (
	"strings"
	"syscall"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// An agent that is stopped while nobody hears it keeps what it has to say.
func TestStopWhileTheControlPlaneIsAway(t *testing.T) {
	t.Parallel()
	onWires(t, func(t *testing.T, f *fleet, w *wires) {
		done := newLedger(f)
		agent := f.startAgent("web-1")
		letGo := f.hold("perform")
		task := f.post("update-app", `{"identifier":"unheard","endpoints":["web-1"],"payload":0}`)
		f.reaches(task, "web-1", tasker.Running)
		w.agents.Refuse()
		letGo()
		wait.For(t, "the script to end", func() bool {
			_, ended := done.of(t, task.ID, "web-1", 1)
			return ended == 1
		})
		agent.stop(t)
		if code := agent.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("it exits with %d:\n%s", code, agent.log)
		}
		if r := f.get(task.Type, task.ID).of("web-1"); r.Status != tasker.Running {
			t.Errorf("it is %s (%s) before anything was heard of it", r.Status, r.Reason)
		}
		w.agents.Accept(t)
		f.startAgent("web-1")
		a := f.ends(task)
		if a.Task.Status != tasker.TaskSucceeded {
			t.Errorf("task is %s: %+v", a.Task.Status, a.Responses)
		}
		done.truthful(t, a)
	})
}

// A control plane that waits for its database, and an agent that waits for its
// control plane, stop when they are told to.
func TestStopWhileWaiting(t *testing.T) {
	t.Parallel()
	onWires(t, func(t *testing.T, f *fleet, w *wires) {
		w.agents.Refuse()
		waiting := []*process{start(t, "tasker-agent", "run", "--config", f.agentConfig("waiting.yaml", "web-1", f.dir+"/waiting"))}
		wait.For(t, "the agent to wait", func() bool { return strings.Contains(waiting[0].log.String(), "not connected") })
		if w.database != nil {
			f.cp.stop(t)
			w.database.Refuse()
			cp := start(t, "tasker-controlplane", "run", "--config", f.config)
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
