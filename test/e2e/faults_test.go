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

func TestCutWiresChangeNothingOfTheResult(t *testing.T) {
	t.Parallel()
	onWires(t, func(t *testing.T, f *fleet, w *wires) {
		done := newLedger(f)
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
			a := f.ends(task)
			if a.Task.Status != tasker.TaskSucceeded {
				t.Errorf("task %s is %s: %+v", task.Identifier, a.Task.Status, a.Responses)
			}
			done.truthful(t, a)
		}
	})
}

// A wire that is stalled for longer than the receive deadline makes nothing
// missing that was received before.
func TestStalledWireInMidTask(t *testing.T) {
	t.Parallel()
	onWires(t, func(t *testing.T, f *fleet, w *wires) {
		done := newLedger(f)
		f.startAgent("web-1")
		letGo := f.hold("perform")
		task := f.post("update-app", `{"identifier":"stalled","endpoints":["web-1"],"payload":0,"receive_timeout":8}`)
		f.reaches(task, "web-1", tasker.Running)
		w.agents.Stall()
		f.passes(task)
		letGo()
		wait.For(t, "the script to end behind the stalled wire", func() bool {
			_, ended := done.of(t, task.ID, "web-1", 1)
			return ended == 1
		})
		if a := f.get(task.Type, task.ID); a.Task.Status != tasker.TaskRunning {
			t.Errorf("task is %s while nothing can be heard of it: %+v", a.Task.Status, a.Responses)
		}
		w.agents.Resume()
		if a := f.ends(task); a.Task.Status != tasker.TaskSucceeded {
			t.Errorf("task is %s: %+v", a.Task.Status, a.Responses)
		}
	})
}

// What cannot be delivered in time is missing, and is not performed afterwards.
func TestOrdersBehindACutWireAreMissingAndNeverRun(t *testing.T) {
	t.Parallel()
	onWires(t, func(t *testing.T, f *fleet, w *wires) {
		done := newLedger(f)
		f.startAgent("web-1")
		w.agents.Refuse()
		task := f.post("update-app", `{"identifier":"late","endpoints":["web-1"],"payload":0,"receive_timeout":1}`)
		a := f.ends(task)
		if r := a.of("web-1"); a.Task.Status != tasker.TaskIncomplete || r.Reason == "" {
			t.Errorf("task is %s, reason %q", a.Task.Status, r.Reason)
		}
		w.agents.Accept(t)
		a = f.ends(f.post("update-app", `{"identifier":"after","endpoints":["web-1"],"payload":0}`))
		if a.Task.Status != tasker.TaskSucceeded {
			t.Errorf("afterwards a task is %s: %+v", a.Task.Status, a.Responses)
		}
		done.truthful(t, a)
		if began, _ := done.of(t, task.ID, "web-1", 1); began > 0 {
			t.Errorf("it was started after its deadline")
		}
		done.truthful(t, f.get(task.Type, task.ID))
	})
}

// While the control plane is cut off from its broker or its database, what the
// agents receive meanwhile does not become missing.
func TestOutageOfTheControlPlaneMakesNothingMissing(t *testing.T) {
	t.Parallel()
	onWires(t, func(t *testing.T, f *fleet, w *wires) {
		if w.broker == nil {
			t.Skip("there is neither broker nor database between the two")
		}
		done := newLedger(f)
		agent := f.startAgent("web-1")
		for what, wire := range map[string]*transporttest.Proxy{"broker": w.broker, "database": w.database} {
			// After the wire before this one, every connection has to be back: an order
			// that waits for one would miss its deadline.
			wait.For(t, "the control plane to be ready", func() bool { return f.call(http.MethodGet, "/readyz", "", nil) == http.StatusOK })
			agent.freeze(t)
			task := f.post("update-app", `{"identifier":"`+what+`","endpoints":["web-1"],"payload":0,"receive_timeout":8}`)
			f.reaches(task, "web-1", tasker.Sent)
			wire.Refuse()
			agent.thaw(t)
			wait.For(t, "the script to end", func() bool {
				_, ended := done.of(t, task.ID, "web-1", 1)
				return ended == 1
			})
			f.passes(task)
			wire.Accept(t)
			a := f.ends(task)
			if r := a.of("web-1"); r.Status != tasker.Succeeded || r.Late {
				t.Errorf("after the outage of the %s it is %s (%s), late: %t", what, r.Status, r.Reason, r.Late)
			}
		}
	})
}

// One agent that does not read holds up nobody else.
func TestStalledAgentHoldsUpNobody(t *testing.T) {
	t.Parallel()
	onWires(t, func(t *testing.T, f *fleet, w *wires) {
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
		a := f.ends(f.post("ping", `{"identifier":"small","endpoints":["web-1"],"receive_timeout":15}`))
		if a.Task.Status != tasker.TaskSucceeded {
			t.Errorf("the other agent's task is %s: %+v", a.Task.Status, a.Responses)
		}
	})
}

// passes waits until a task's receive deadline has passed, by a second.
func (f *fleet) passes(task tasker.Task) {
	f.t.Helper()
	wait.For(f.t, "the deadline to pass", func() bool { return time.Now().After(task.ReceiveDeadline.Add(time.Second)) })
}

// reaches waits until the endpoint's response has a status.
func (f *fleet) reaches(task tasker.Task, endpoint string, status tasker.ResponseStatus) {
	f.t.Helper()
	wait.For(f.t, fmt.Sprintf("%s to be %s on %s", task.Identifier, status, endpoint), func() bool {
		return f.get(task.Type, task.ID).of(endpoint).Status == status
	})
}
