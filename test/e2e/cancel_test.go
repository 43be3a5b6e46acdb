package e2e

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

func TestCancelAndRetryAtEachMoment(t *testing.T) {
	t.Parallel()
	onEachFabric(t, func(t *testing.T, f *fleet) {
		done := newLedger(f)
		agent := f.startAgent("web-1")
		begins := func(task tasker.Task, attempt int) {
			t.Helper()
			wait.For(t, "the script to begin", func() bool {
				n, _ := done.of(t, task.ID, "web-1", attempt)
				return n > 0
			})
		}
		check := func(a answer, attempt, begun int, want tasker.ResponseStatus) {
			t.Helper()
			if r := a.of("web-1"); r.Status != want || r.Attempt != attempt {
				t.Errorf("%s is %s (%s) in attempt %d, want %s in %d", a.Task.Identifier, r.Status, r.Reason, r.Attempt, want, attempt)
			}
			if n, _ := done.of(t, a.Task.ID, "web-1", attempt); n != begun {
				t.Errorf("attempt %d of %s was started %d times, want %d", attempt, a.Task.Identifier, n, begun)
			}
			done.truthful(t, a)
		}

		// Sent, with the agent stalled.
		agent.freeze(t)
		sent := f.post("update-app", `{"identifier":"sent","endpoints":["web-1"],"payload":0}`)
		f.reaches(sent, "web-1", tasker.Sent)
		f.tell(sent, "cancel", http.StatusAccepted)
		f.tell(sent, "retry", http.StatusConflict)
		agent.thaw(t)
		a := f.ends(sent)
		// Whether the cancel overtakes the start is the agent's to say.
		if s := a.of("web-1").Status; s != tasker.Cancelled && s != tasker.Succeeded {
			t.Errorf("sent is %s", s)
		}
		if began, ended := done.of(t, sent.ID, "web-1", 1); began > ended && a.of("web-1").Reason != "cancelled while it was running" {
			t.Errorf("sent was begun and cancelled: %s", a.of("web-1").Reason)
		}
		done.truthful(t, a)

		// Running, and again.
		running := f.post("update-app", `{"identifier":"running","endpoints":["web-1"],"payload":600}`)
		begins(running, 1)
		f.tell(running, "retry", http.StatusConflict)
		f.tell(running, "cancel", http.StatusAccepted)
		f.tell(running, "cancel", http.StatusAccepted)
		check(f.ends(running), 1, 1, tasker.Cancelled)
		f.tell(running, "retry", http.StatusAccepted)
		begins(running, 2)
		f.tell(running, "cancel", http.StatusAccepted)
		check(f.ends(running), 2, 1, tasker.Cancelled)
		f.tell(running, "cancel", http.StatusAccepted)
		check(f.ends(running), 2, 1, tasker.Cancelled)

		// Received, waiting behind eight that run.
		var busy []tasker.Task
		for i := range 8 {
			busy = append(busy, f.post("update-app", fmt.Sprintf(`{"identifier":"busy-%d","endpoints":["web-1"],"payload":600}`, i)))
		}
		for _, b := range busy {
			begins(b, 1)
		}
		received := f.post("update-app", `{"identifier":"received","endpoints":["web-1"],"payload":0}`)
		f.reaches(received, "web-1", tasker.Received)
		f.tell(received, "cancel", http.StatusAccepted)
		check(f.ends(received), 1, 0, tasker.Cancelled)
		for _, b := range busy {
			f.tell(b, "cancel", http.StatusAccepted)
		}
		for _, b := range busy {
			check(f.ends(b), 1, 1, tasker.Cancelled)
		}

		// Pending, and never sent.
		agent.stop(t)
		pending := f.post("update-app", `{"identifier":"pending","endpoints":["nobody"],"payload":0}`)
		f.tell(pending, "cancel", http.StatusAccepted)
		if a := f.ends(pending); a.Task.Status != tasker.TaskCancelled {
			t.Errorf("pending is %s: %+v", a.Task.Status, a.Responses)
		}
	})
}

// tell cancels or retries a task and checks the answer.
func (f *fleet) tell(task tasker.Task, what string, want int) {
	f.t.Helper()
	if code := f.call(http.MethodPost, "/"+task.Type+"/"+task.ID+"/"+what, "", nil); code != want {
		f.t.Errorf("%s of %s answered %d, want %d", what, task.Identifier, code, want)
	}
}

// A cancel that races with the sending: what is said once all has ended stays,
// and is what was done.
func TestCancelRightAfterThePost(t *testing.T) {
	t.Parallel()
	onEachFabric(t, func(t *testing.T, f *fleet) {
		done := newLedger(f)
		f.startAgent("web-1")
		var ended []answer
		for i := range 30 {
			task := f.post("update-app", fmt.Sprintf(`{"identifier":"%d","endpoints":["web-1"],"payload":0.01}`, i))
			f.tell(task, "cancel", http.StatusAccepted)
			ended = append(ended, f.ends(task))
		}
		f.ends(f.post("ping", `{"identifier":"last","endpoints":["web-1"]}`))
		for _, was := range ended {
			now := f.get(was.Task.Type, was.Task.ID)
			if now.Task.Status != was.Task.Status || now.Task.Version != was.Task.Version {
				t.Errorf("task %s had ended as %s (%+v) and is %s (%+v)", was.Task.Identifier, was.Task.Status, was.Responses, now.Task.Status, now.Responses)
			}
			done.truthful(t, now)
		}
	})
}
