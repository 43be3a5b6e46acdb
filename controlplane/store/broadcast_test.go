package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

func TestBroadcast(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		f.apply(t, hello("lb-1", "s"), hello("lb-2", "s"))
		task := f.create(t, request("all"))
		if !task.Broadcast() || task.Status != "pending" {
			t.Fatalf("task %+v", task)
		}
		claims := f.send(t, 1)
		if o := claims[0].Order; o.Endpoint != tasker.AllEndpoints || o.Assignment.TaskID != task.ID || !o.Expires.Equal(task.ReceiveDeadline) {
			t.Errorf("order %+v", o)
		}
		f.want(t, task.ID, "sent")
		f.apply(t, update("lb-1", task.ID, 1, 1, tasker.Running), update("lb-2", task.ID, 1, 2, tasker.Succeeded))
		f.want(t, task.ID, "running", "lb-1", "running", "lb-2", "succeeded")
		f.apply(t, update("lb-1", task.ID, 1, 2, tasker.Succeeded))
		f.want(t, task.ID, "running", "lb-1", "succeeded", "lb-2", "succeeded") // other endpoints may still receive it
		f.Add(31 * time.Second)
		if finished := f.expire(t, 1); len(finished) != 1 || finished[0].Status != "succeeded" || finished[0].ID != task.ID {
			t.Errorf("finished %+v", finished)
		}
		f.want(t, task.ID, "succeeded", "lb-1", "succeeded", "lb-2", "succeeded")
		f.expire(t, 0)
	})
}

func TestBroadcastIgnoresEndpointsThatDoNotServeIt(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		n := request("all")
		n.Type = "update"
		task := f.create(t, n)
		f.apply(t, hello("lb-1", "s"))
		a := f.apply(t, update("lb-1", task.ID, 1, 1, tasker.Running), update("unknown", task.ID, 1, 1, tasker.Running))
		if a.Updates["unknown"] != 2 {
			t.Errorf("updates %v, want 2 unknown", a.Updates)
		}
		script := hello("lb-1", "s2")
		script.Hello.Handlers, script.Hello.Scripts = []string{"script"}, []string{"update"}
		a = f.apply(t, script, update("lb-1", task.ID, 2, 1, tasker.Running), update("lb-1", task.ID, 1, 1, tasker.Running))
		if diff := cmp.Diff(map[string]int{"applied": 1, "stale": 1}, a.Updates); diff != "" {
			t.Errorf("updates (-want +got):\n%s", diff)
		}
	})
}

// An agent that connects while a broadcast is open receives it after the welcome.
func TestBroadcastReachesLateAgents(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, request("all"))
		f.create(t, request("cancelled"))
		f.send(t, 2)
		f.cancel(t, "cancelled")
		f.send(t, 1)
		other := request("other")
		other.Type = "update"
		f.create(t, other)
		f.send(t, 1)
		a := f.apply(t, hello("lb-1", "s"))
		if len(a.Orders) != 2 || a.Orders[0].Welcome == nil || a.Orders[1].Assignment == nil ||
			a.Orders[1].Assignment.TaskID != task.ID || a.Orders[1].Endpoint != "lb-1" {
			t.Fatalf("orders %+v", a.Orders)
		}
		f.apply(t, update("lb-1", task.ID, 1, 1, tasker.Running))
		if a := f.apply(t, hello("lb-1", "s2", tasker.AssignmentRef{TaskID: task.ID, Attempt: 1})); len(a.Orders) != 1 {
			t.Errorf("orders to an endpoint with a response: %+v", a.Orders)
		}
		f.Add(time.Minute)
		if a := f.apply(t, hello("lb-2", "s")); len(a.Orders) != 1 {
			t.Errorf("orders after the deadline: %+v", a.Orders)
		}
	})
}

func TestBroadcastWithoutSubscriber(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, request("all"))
		claims := f.claim(t, 1)
		must(t, f.MarkUnsent(t.Context(), []store.Unsent{{Claim: claims[0], Reason: "unroutable", After: time.Second}}))
		f.want(t, task.ID, "pending")
		if _, err := f.RetryTask(t.Context(), "ping", "all", ""); !errors.Is(err, store.ErrUnfinished) {
			t.Errorf("retry of an open broadcast = %v", err)
		}
		f.Add(31 * time.Second)
		f.claim(t, 0)
		f.expire(t, 1)
		f.want(t, task.ID, "incomplete")
		if got, _ := f.task(t, task.ID); got.Reason != "no subscriber" || got.FinishedAt == nil {
			t.Errorf("reason %q, finished at %v", got.Reason, got.FinishedAt)
		}
		got, err := f.RetryTask(t.Context(), "ping", "all", "")
		must(t, err)
		if got.Status != "pending" || got.Reason != "" {
			t.Errorf("after the retry: %+v", got)
		}
		if c := f.send(t, 1); c[0].Order.Endpoint != tasker.AllEndpoints || c[0].Attempt != 2 {
			t.Errorf("claim %+v", c[0])
		}
		f.apply(t, heartbeat("lb-1"))
		f.Add(time.Minute)
		f.expire(t, 1)
		// A late report: the order was received before the deadline.
		f.apply(t, update("lb-1", task.ID, 2, 1, tasker.Running))
		f.want(t, task.ID, "running", "lb-1", "running")
		f.apply(t, update("lb-1", task.ID, 2, 2, tasker.Failed))
		f.want(t, task.ID, "failed", "lb-1", "failed")
		if got, _ := f.task(t, task.ID); got.Reason != "" {
			t.Errorf("reason %q", got.Reason)
		}
		_, err = f.RetryTask(t.Context(), "ping", "all", "")
		must(t, err)
		if c := f.send(t, 1); c[0].Order.Endpoint != "lb-1" || c[0].Attempt != 3 {
			t.Errorf("the retry goes to %+v, want lb-1 only", c[0])
		}
		f.want(t, task.ID, "sent", "lb-1", "sent")
	})
}

func TestCancelBroadcast(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		f.apply(t, heartbeat("lb-1"), heartbeat("lb-2"))
		unsent := f.create(t, request("unsent"))
		f.cancel(t, "unsent")
		f.want(t, unsent.ID, "cancelled")
		f.claim(t, 0)

		task := f.create(t, request("all"))
		f.send(t, 1)
		f.apply(t, update("lb-1", task.ID, 1, 1, tasker.Running))
		f.cancel(t, "all")
		to := map[string]bool{}
		for _, c := range f.send(t, 2) {
			to[c.Order.Endpoint] = c.Order.Cancel.Broadcast
		}
		if diff := cmp.Diff(map[string]bool{"lb-1": false, tasker.AllEndpoints: true}, to); diff != "" {
			t.Errorf("cancels (-want +got):\n%s", diff)
		}
		// The order is received before the cancel and reported after it.
		f.apply(t, update("lb-1", task.ID, 1, 2, tasker.Cancelled), update("lb-2", task.ID, 1, 1, tasker.Running))
		if c := f.send(t, 1); c[0].Order.Endpoint != "lb-2" || c[0].Order.Cancel == nil {
			t.Errorf("claim %+v", c[0])
		}
		f.apply(t, update("lb-2", task.ID, 1, 2, tasker.Cancelled))
		f.Add(time.Minute)
		f.expire(t, 1)
		f.want(t, task.ID, "cancelled", "lb-1", "cancelled", "lb-2", "cancelled")
	})
}
