package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport/transporttest"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

func TestCutConnectionsDoNotAffectResults(t *testing.T) {
	t.Parallel()
	withProxies(t, func(t *testing.T, f *fleet, w *proxies) {
		done := newSleepScript(f)
		f.startAgent("web-1")
		f.startAgent("web-2")
		var tasks []tasker.Task
		for i := range 20 {
			tasks = append(tasks, f.post("update-app", fmt.Sprintf(
				`{"identifier":"cut-%d","endpoints":["web-1","web-2"],"payload":0.2}`, i)))
			switch i % 5 {
			case 1:
				w.agents.Cut()
			case 3:
				if w.broker != nil {
					w.broker.Cut()
				}
			case 4:
				if w.database != nil {
					w.database.Cut()
				}
			}
		}
		for _, task := range tasks {
			a := f.waitFinished(task)
			if a.Task.Status != tasker.TaskSucceeded {
				t.Errorf("task %s is %s: %+v", task.Identifier, a.Task.Status, a.Responses)
			}
			done.check(t, a)
		}
	})
}

// The agent's connection stalls for longer than the receive deadline. A task that was
// received before does not become missing.
func TestStalledConnectionDuringTask(t *testing.T) {
	t.Parallel()
	withProxies(t, func(t *testing.T, f *fleet, w *proxies) {
		done := newSleepScript(f)
		f.startAgent("web-1")
		release := f.hold("perform")
		task := f.post("update-app", `{"identifier":"stalled","endpoints":["web-1"],"payload":0,"receive_timeout":8}`)
		f.waitStatus(task, "web-1", tasker.Running)
		w.agents.Stall()
		f.waitReceiveDeadline(task)
		release()
		wait.For(t, "the script to end behind the stalled connection", func() bool {
			_, ended := done.counts(t, task.ID, "web-1", 1)
			return ended == 1
		})
		if a := f.get(task.Type, task.ID); a.Task.Status != tasker.TaskRunning {
			t.Errorf("task is %s while its agent cannot report: %+v", a.Task.Status, a.Responses)
		}
		w.agents.Resume()
		if a := f.waitFinished(task); a.Task.Status != tasker.TaskSucceeded {
			t.Errorf("task is %s: %+v", a.Task.Status, a.Responses)
		}
	})
}

// A task that cannot be delivered in time is missing, and is not performed afterwards.
func TestUndeliveredTaskIsMissingAndNeverRuns(t *testing.T) {
	t.Parallel()
	withProxies(t, func(t *testing.T, f *fleet, w *proxies) {
		done := newSleepScript(f)
		f.startAgent("web-1")
		w.agents.Refuse()
		task := f.post("update-app", `{"identifier":"late","endpoints":["web-1"],"payload":0,"receive_timeout":1}`)
		a := f.waitFinished(task)
		if r := a.response("web-1"); a.Task.Status != tasker.TaskIncomplete || r.Reason == "" {
			t.Errorf("task is %s, reason %q", a.Task.Status, r.Reason)
		}
		w.agents.Accept(t)
		a = f.waitFinished(f.post("update-app", `{"identifier":"after","endpoints":["web-1"],"payload":0}`))
		if a.Task.Status != tasker.TaskSucceeded {
			t.Errorf("afterwards a task is %s: %+v", a.Task.Status, a.Responses)
		}
		done.check(t, a)
		if began, _ := done.counts(t, task.ID, "web-1", 1); began > 0 {
			t.Errorf("it was started after its deadline")
		}
		done.check(t, f.get(task.Type, task.ID))
	})
}

// The control plane loses its broker or its database. A task that an agent receives meanwhile
// does not become missing.
func TestOutageOfTheControlPlaneMakesNothingMissing(t *testing.T) {
	t.Parallel()
	withProxies(t, func(t *testing.T, f *fleet, w *proxies) {
		if w.broker == nil {
			t.Skip("there is neither broker nor database")
		}
		done := newSleepScript(f)
		agent := f.startAgent("web-1")
		for what, proxy := range map[string]*transporttest.Proxy{"broker": w.broker, "database": w.database} {
			// Every connection must be back after the previous fault: an order
			// that waits for one would miss its deadline.
			wait.For(t, "the control plane to be ready", func() bool { return f.call(http.MethodGet, "/readyz", "", nil) == http.StatusOK })
			agent.freeze(t)
			task := f.post("update-app", `{"identifier":"`+what+`","endpoints":["web-1"],"payload":0,"receive_timeout":8}`)
			f.waitStatus(task, "web-1", tasker.Sent)
			proxy.Refuse()
			agent.thaw(t)
			wait.For(t, "the script to end", func() bool {
				_, ended := done.counts(t, task.ID, "web-1", 1)
				return ended == 1
			})
			f.waitReceiveDeadline(task)
			proxy.Accept(t)
			a := f.waitFinished(task)
			if r := a.response("web-1"); r.Status != tasker.Succeeded || r.Late {
				t.Errorf("after the outage of the %s it is %s (%s), late: %t", what, r.Status, r.Reason, r.Late)
			}
		}
	})
}

func TestStalledAgentDoesNotBlockOthers(t *testing.T) {
	t.Parallel()
	withProxies(t, func(t *testing.T, f *fleet, w *proxies) {
		f.startAgent("stalled")
		stalled := w.agents
		stalled.Stall()
		defer stalled.Resume()
		w.agents = transporttest.NewProxy(t, w.target)
		f.startAgent("web-1")
		payload, _ := json.Marshal(strings.Repeat("x", tasker.MaxPayload-2))
		for i := range 8 {
			f.post("ping", fmt.Sprintf(`{"identifier":"large-%d","endpoints":["stalled"],"payload":%s}`, i, payload))
		}
		a := f.waitFinished(f.post("ping", `{"identifier":"small","endpoints":["web-1"],"receive_timeout":15}`))
		if a.Task.Status != tasker.TaskSucceeded {
			t.Errorf("the other agent's task is %s: %+v", a.Task.Status, a.Responses)
		}
	})
}

// waitReceiveDeadline waits until one second after a task's receive deadline.
func (f *fleet) waitReceiveDeadline(task tasker.Task) {
	f.t.Helper()
	wait.For(f.t, "the deadline to pass", func() bool { return time.Now().After(task.ReceiveDeadline.Add(time.Second)) })
}

// waitStatus waits until the response of an endpoint has a status.
func (f *fleet) waitStatus(task tasker.Task, endpoint string, status tasker.ResponseStatus) {
	f.t.Helper()
	wait.For(f.t, fmt.Sprintf("%s to be %s on %s", task.Identifier, status, endpoint), func() bool {
		return f.get(task.Type, task.ID).response(endpoint).Status == status
	})
}
