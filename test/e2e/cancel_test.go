package e2e

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

func TestCancelAndRetryInEveryStatus(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		done := newSleepScript(f)
		agent := f.startAgent("web-1")
		waitStart := func(task tasker.Task, attempt int) {
			t.Helper()
			wait.For(t, "the script to start", func() bool {
				n, _ := done.counts(t, task.ID, "web-1", attempt)
				return n > 0
			})
		}
		check := func(a answer, attempt, starts int, want tasker.ResponseStatus) {
			t.Helper()
			if r := a.response("web-1"); r.Status != want || r.Attempt != attempt {
				t.Errorf("%s is %s (%s) in attempt %d, want %s in %d", a.Task.Identifier, r.Status, r.Reason, r.Attempt, want, attempt)
			}
			if n, _ := done.counts(t, a.Task.ID, "web-1", attempt); n != starts {
				t.Errorf("attempt %d of %s was started %d times, want %d", attempt, a.Task.Identifier, n, starts)
			}
			done.check(t, a)
		}

		// Sent, while the agent is frozen.
		agent.freeze(t)
		sent := f.post("update-app", `{"identifier":"sent","endpoints":["web-1"],"payload":0}`)
		f.waitStatus(sent, "web-1", tasker.Sent)
		f.control(sent, "cancel", http.StatusAccepted)
		f.control(sent, "retry", http.StatusConflict)
		agent.thaw(t)
		a := f.waitFinished(sent)
		// The agent may start the task before the cancel arrives.
		if s := a.response("web-1").Status; s != tasker.Cancelled && s != tasker.Succeeded {
			t.Errorf("sent is %s", s)
		}
		if began, ended := done.counts(t, sent.ID, "web-1", 1); began > ended && a.response("web-1").Reason != "cancelled while it was running" {
			t.Errorf("sent was started and cancelled: %s", a.response("web-1").Reason)
		}
		done.check(t, a)

		// Running, also in the second attempt.
		running := f.post("update-app", `{"identifier":"running","endpoints":["web-1"],"payload":600}`)
		waitStart(running, 1)
		f.control(running, "retry", http.StatusConflict)
		f.control(running, "cancel", http.StatusAccepted)
		f.control(running, "cancel", http.StatusAccepted)
		check(f.waitFinished(running), 1, 1, tasker.Cancelled)
		f.control(running, "retry", http.StatusAccepted)
		waitStart(running, 2)
		f.control(running, "cancel", http.StatusAccepted)
		check(f.waitFinished(running), 2, 1, tasker.Cancelled)
		f.control(running, "cancel", http.StatusAccepted)
		check(f.waitFinished(running), 2, 1, tasker.Cancelled)

		// Received, waiting behind eight running ones.
		var busy []tasker.Task
		for i := range 8 {
			busy = append(busy, f.post("update-app", fmt.Sprintf(`{"identifier":"busy-%d","endpoints":["web-1"],"payload":600}`, i)))
		}
		for _, b := range busy {
			waitStart(b, 1)
		}
		received := f.post("update-app", `{"identifier":"received","endpoints":["web-1"],"payload":0}`)
		f.waitStatus(received, "web-1", tasker.Received)
		f.control(received, "cancel", http.StatusAccepted)
		check(f.waitFinished(received), 1, 0, tasker.Cancelled)
		for _, b := range busy {
			f.control(b, "cancel", http.StatusAccepted)
		}
		for _, b := range busy {
			check(f.waitFinished(b), 1, 1, tasker.Cancelled)
		}

		// Pending, without an agent.
		agent.stop(t)
		pending := f.post("update-app", `{"identifier":"pending","endpoints":["missing"],"payload":0}`)
		f.control(pending, "cancel", http.StatusAccepted)
		if a := f.waitFinished(pending); a.Task.Status != tasker.TaskCancelled {
			t.Errorf("pending is %s: %+v", a.Task.Status, a.Responses)
		}
	})
}

// control cancels or retries a task and checks the status code.
func (f *fleet) control(task tasker.Task, what string, want int) {
	f.t.Helper()
	if code := f.call(http.MethodPost, "/"+task.Type+"/"+task.ID+"/"+what, "", nil); code != want {
		f.t.Errorf("%s of %s answered %d, want %d", what, task.Identifier, code, want)
	}
}

// The cancel races with the sending of the task. The final response does not change, and
// matches what was done.
func TestCancelRightAfterPost(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		done := newSleepScript(f)
		f.startAgent("web-1")
		var ended []answer
		for i := range 30 {
			task := f.post("update-app", fmt.Sprintf(`{"identifier":"%d","endpoints":["web-1"],"payload":0.01}`, i))
			f.control(task, "cancel", http.StatusAccepted)
			ended = append(ended, f.waitFinished(task))
		}
		f.waitFinished(f.post("ping", `{"identifier":"last","endpoints":["web-1"]}`))
		for _, was := range ended {
			now := f.get(was.Task.Type, was.Task.ID)
			if now.Task.Status != was.Task.Status || now.Task.Version != was.Task.Version {
				t.Errorf("task %s had ended as %s (%+v) and is %s (%+v)", was.Task.Identifier, was.Task.Status, was.Responses, now.Task.Status, now.Responses)
			}
			done.check(t, now)
		}
	})
}
