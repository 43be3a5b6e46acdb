package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

func TestMissingReasonNamesTheProblemOfTheAgent(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, request("a", "web-1"))
		f.send(t, 1)
		f.Add(25 * time.Second)
		report := heartbeat("web-1")
		report.Heartbeat.Problem = "the agent cannot write its journal: no space left on device"
		f.apply(t, report)
		f.Add(6 * time.Second)
		f.expire(t, 1)
		responses := f.want(t, task.ID, "incomplete", "web-1", "missing")
		if got := responses["web-1"].Reason; got != report.Heartbeat.Problem {
			t.Errorf("reason %q, want the agent's problem", got)
		}
	})
}

func TestExpireMissing(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		f.apply(t, hello("gone", "s"), hello("stopped", "s"), hello("silent", "s"), hello("unroutable", "s"), hello("busy", "s"), hello("unsent", "s"))
		gone := f.Now()
		f.Add(time.Minute)
		f.apply(t, goodbye("stopped"))
		stopped := f.Now()
		task := f.create(t, request("a", "gone", "stopped", "unknown", "silent", "unroutable", "busy", "unsent", "done"))
		var sent []store.Claim
		for _, c := range f.claim(t, 8) {
			switch c.Endpoint {
			case "unroutable":
				must(t, f.MarkUnsent(t.Context(), []store.Unsent{{Claim: c, Reason: "unroutable: no queue", After: time.Hour}}))
			case "busy":
				must(t, f.MarkUnsent(t.Context(), []store.Unsent{{Claim: c, Reason: "broker is away", After: time.Hour}}))
			case "unsent":
			default:
				sent = append(sent, c)
			}
		}
		must(t, f.MarkSent(t.Context(), sent))
		f.Add(29 * time.Second)
		f.expire(t, 0)
		f.Add(time.Second)
		f.apply(t, heartbeat("silent"), heartbeat("unroutable"), heartbeat("busy"), heartbeat("unsent"), update("done", task.ID, 1, 1, tasker.Running))
		n, _, err := f.ExpireMissing(t.Context(), task.CreatedAt, 1000)
		if n != 0 || err != nil {
			t.Errorf("tasks created too early: %d, %v", n, err)
		}
		n, finished, err := f.ExpireMissing(t.Context(), task.CreatedAt.Add(-time.Microsecond), 4)
		if n != 4 || len(finished) != 0 || err != nil {
			t.Errorf("limit of four: %d, %v, %v", n, finished, err)
		}
		f.expire(t, 3)
		responses := f.want(t, task.ID, "incomplete", "gone", "missing", "stopped", "missing", "unknown", "missing",
			"silent", "missing", "unroutable", "missing", "busy", "missing", "unsent", "missing", "done", "running")
		for name, want := range map[string]string{
			"gone": "offline since " + gone.Format(time.RFC3339), "stopped": "offline since " + stopped.Format(time.RFC3339),
			"unknown": "never connected", "silent": "not acknowledged", "unroutable": "unroutable: no queue",
			"busy": "broker is away", "unsent": "not sent",
		} {
			if r := responses[name]; r.Reason != want || !r.Presumed || r.FinishedAt == nil {
				t.Errorf("%s: reason %q, want %q; %+v", name, r.Reason, want, r)
			}
		}
		if got, _ := f.task(t, task.ID); got.FinishedAt != nil {
			t.Error("the task has finished while a response has not ended")
		}
		f.Add(time.Hour)
		f.claim(t, 0)
		a := f.apply(t, update("done", task.ID, 1, 2, tasker.Succeeded))
		if len(a.Finished) != 1 || a.Finished[0].Status != "incomplete" {
			t.Errorf("finished %+v", a.Finished)
		}
		// Late reports replace presumed ends.
		for _, name := range []string{"gone", "stopped", "unknown", "silent", "unroutable", "busy"} {
			f.apply(t, update(name, task.ID, 1, 1, tasker.Succeeded))
		}
		f.apply(t, update("unsent", task.ID, 1, 1, tasker.Running))
		f.want(t, task.ID, "running", "gone", "succeeded", "stopped", "succeeded", "unknown", "succeeded",
			"silent", "succeeded", "unroutable", "succeeded", "busy", "succeeded", "unsent", "running", "done", "succeeded")
		if got, _ := f.task(t, task.ID); got.FinishedAt != nil {
			t.Error("the task has finished while a response is running again")
		}
		a = f.apply(t, update("unsent", task.ID, 1, 2, tasker.Succeeded))
		if len(a.Finished) != 1 || a.Finished[0].Status != "succeeded" || !a.Finished[0].FinishedAt.Equal(f.Now()) {
			t.Errorf("finished %+v", a.Finished)
		}
		_, responses = f.task(t, task.ID)
		if r := responses["unsent"]; !r.Late || r.Presumed {
			t.Errorf("response %+v, want it late", r)
		}
	})
}

func TestExpireSilent(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		f.apply(t, heartbeat("lb-1"), heartbeat("lb-2"))
		since := f.Now()
		task := f.create(t, request("a", "lb-1", "lb-2"))
		cancelled := f.create(t, request("b", "lb-1"))
		f.send(t, 3)
		f.apply(t, update("lb-1", task.ID, 1, 1, tasker.Running), update("lb-1", cancelled.ID, 1, 1, tasker.Received),
			update("lb-2", task.ID, 1, 1, tasker.Running))
		f.cancel(t, "b")
		f.Add(59 * time.Minute)
		f.apply(t, heartbeat("lb-2"))
		expireSilent := func(want int) {
			t.Helper()
			if n, _, err := f.ExpireSilent(t.Context(), time.Hour, 100); n != want || err != nil {
				t.Errorf("ExpireSilent = %d, %v; want %d", n, err, want)
			}
		}
		expireSilent(0)
		f.Add(2 * time.Minute)
		expireSilent(2)
		expireSilent(0)
		r := f.want(t, task.ID, "running", "lb-1", "interrupted", "lb-2", "running")["lb-1"]
		if want := "silent since " + since.Format(time.RFC3339); r.Reason != want || !r.Presumed {
			t.Errorf("reason %q, want %q", r.Reason, want)
		}
		// Only the agent can report that nothing runs any more.
		f.want(t, cancelled.ID, "cancelled", "lb-1", "interrupted")
		f.apply(t, update("lb-1", task.ID, 1, 2, tasker.Succeeded), update("lb-1", cancelled.ID, 1, 2, tasker.Succeeded))
		f.want(t, task.ID, "running", "lb-1", "succeeded", "lb-2", "running")
		f.want(t, cancelled.ID, "succeeded", "lb-1", "succeeded")
	})
}

func TestStats(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		f.create(t, request("a", "lb-1", "lb-2"))
		f.Add(3 * time.Second)
		f.create(t, request("all"))
		f.cancel(t, f.create(t, request("ended", "lb-1")).ID)
		got, err := f.Stats(t.Context())
		must(t, err)
		want := store.Stats{Due: 3, OldestDue: 3 * time.Second, Open: 2, Rollouts: map[tasker.RolloutState]int{
			tasker.RolloutScheduled: 0, tasker.RolloutWaiting: 0, tasker.RolloutRunning: 0, tasker.RolloutSoaking: 0,
			tasker.RolloutGating: 0, tasker.RolloutPaused: 0, tasker.RolloutRollingBack: 0,
		}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}
