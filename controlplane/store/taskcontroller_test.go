package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

func (f *fixture) cancel(t *testing.T, ref string) tasker.Task {
	t.Helper()
	task, err := f.CancelTask(t.Context(), "ping", ref, "alice")
	must(t, err)
	return task
}

func TestCancelInEachStatus(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, request("a", "ended", "running", "received", "sent"))
		f.send(t, 4)
		f.apply(t, update("ended", task.ID, 1, 1, tasker.Succeeded), update("running", task.ID, 1, 1, tasker.Running),
			update("received", task.ID, 1, 1, tasker.Received))
		got := f.cancel(t, "a")
		if got.CancelRequestedBy != "alice" || got.CancelRequestedAt == nil || !got.CancelRequestedAt.Equal(f.Now()) {
			t.Errorf("cancelled by %q at %v", got.CancelRequestedBy, got.CancelRequestedAt)
		}
		f.want(t, task.ID, "running", "ended", "succeeded", "running", "running", "received", "received", "sent", "sent")
		f.Add(time.Second)
		again := f.cancel(t, task.ID)
		if diff := cmp.Diff(got, again); diff != "" {
			t.Errorf("a second cancel (-first +second):\n%s", diff)
		}
		addressed := map[string]bool{}
		claims := f.claim(t, 3)
		for _, c := range claims {
			addressed[c.Endpoint] = true
			want := &tasker.Cancel{TaskID: task.ID, Attempt: 1, Deadline: task.ReceiveDeadline}
			if diff := cmp.Diff(want, c.Order.Cancel); diff != "" || !c.Cancel || c.Order.Endpoint != c.Endpoint || c.Order.Type != "ping" {
				t.Errorf("order %+v (-want +got):\n%s", c.Order, diff)
			}
		}
		if diff := cmp.Diff(map[string]bool{"running": true, "received": true, "sent": true}, addressed); diff != "" {
			t.Errorf("cancels to (-want +got):\n%s", diff)
		}
		must(t, f.MarkSent(t.Context(), claims))
		f.Add(store.ClaimHold - 2*time.Second)
		f.claim(t, 0)
		// Responses change by reports, or by the deadline.
		f.apply(t, update("running", task.ID, 1, 2, tasker.Cancelled))
		f.want(t, task.ID, "running", "ended", "succeeded", "running", "cancelled", "received", "received", "sent", "sent")
		f.Add(time.Minute)
		f.expire(t, 1)
		f.apply(t, update("received", task.ID, 1, 2, tasker.Cancelled))
		f.want(t, task.ID, "incomplete", "ended", "succeeded", "running", "cancelled", "received", "cancelled", "sent", "missing")
	})
}

func TestCancelPending(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, request("a", "lb-1", "lb-2"))
		f.cancel(t, "a")
		r := f.want(t, task.ID, "cancelled", "lb-1", "cancelled", "lb-2", "cancelled")["lb-1"]
		if r.Presumed || r.FinishedAt == nil || r.Reason == "" {
			t.Errorf("response %+v", r)
		}
		f.claim(t, 0)
		f.Add(time.Hour)
		f.expire(t, 0)
	})
}

// A cancel of an order that is being sent follows the order, and the agent reports the
// outcome.
func TestCancelDuringClaim(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, request("a", "lb-1"))
		claims := f.claim(t, 1)
		f.cancel(t, "a")
		f.want(t, task.ID, "pending", "lb-1", "pending")
		must(t, f.MarkSent(t.Context(), claims))
		f.want(t, task.ID, "sent", "lb-1", "sent")
		if c := f.claim(t, 1); !c[0].Cancel {
			t.Errorf("claimed %+v, want a cancel", c[0])
		} else {
			must(t, f.MarkUnsent(t.Context(), []store.Unsent{{Claim: c[0], Reason: "offline", After: time.Second}}))
		}
		f.Add(time.Second)
		f.claim(t, 1)
		f.apply(t, update("lb-1", task.ID, 1, 1, tasker.Running))
		f.want(t, task.ID, "running", "lb-1", "running")
		f.apply(t, update("lb-1", task.ID, 1, 2, tasker.Cancelled))
		f.want(t, task.ID, "cancelled", "lb-1", "cancelled")
	})
}

// A response whose order cannot be sent is cancelled, whether the send fails before or
// after the cancel. If the order was sent after all, the agent's reports count.
func TestCancelOfUnsendableOrders(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, request("a", "lb-1"))
		failSend := func() {
			t.Helper()
			must(t, f.MarkUnsent(t.Context(), []store.Unsent{{Claim: f.claim(t, 1)[0], Reason: "offline", After: time.Second}}))
		}
		for range 2 {
			failSend()
			f.cancel(t, "a")
			if r := f.want(t, task.ID, "cancelled", "lb-1", "cancelled")["lb-1"]; !r.Presumed {
				t.Errorf("response %+v, want it presumed", r)
			}
			if _, err := f.RetryTask(t.Context(), "ping", "a", "alice"); err != nil {
				t.Fatal(err)
			}
		}
		claims := f.claim(t, 1)
		f.cancel(t, "a")
		must(t, f.MarkUnsent(t.Context(), []store.Unsent{{Claim: claims[0], Reason: "offline", After: time.Second}}))
		f.want(t, task.ID, "cancelled", "lb-1", "cancelled")
		if c := f.claim(t, 1); !c[0].Cancel {
			t.Errorf("claimed %+v, want a cancel", c[0])
		}
		f.apply(t, update("lb-1", task.ID, 3, 1, tasker.Running))
		f.want(t, task.ID, "running", "lb-1", "running")
	})
}

// A response whose order may have arrived although its send failed is not cancelled
// without a report of its agent, even if a later try finds the agent offline.
func TestCancelOfOrdersThatMayHaveArrived(t *testing.T) {
	tests := map[string]struct{ cancelBefore bool }{
		"cancelled after the failed send": {false},
		"cancelled during the send":       {true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, f *fixture) {
				task := f.create(t, request("a", "lb-1"))
				claims := f.claim(t, 1)
				if tt.cancelBefore {
					f.cancel(t, "a")
				}
				must(t, f.MarkUnsent(t.Context(), []store.Unsent{{Claim: claims[0], Reason: "the connection broke", After: time.Second, MaybeSent: true}}))
				if !tt.cancelBefore {
					f.Add(time.Second)
					must(t, f.MarkUnsent(t.Context(), []store.Unsent{{Claim: f.claim(t, 1)[0], Reason: "offline", After: time.Second}}))
					f.cancel(t, "a")
				}
				f.want(t, task.ID, "pending", "lb-1", "pending")
				if c := f.claim(t, 1); !c[0].Cancel {
					t.Errorf("claimed %+v, want a cancel", c[0])
				}
				f.apply(t, update("lb-1", task.ID, 1, 1, tasker.Cancelled))
				f.want(t, task.ID, "cancelled", "lb-1", "cancelled")
			})
		})
	}
}

// An agent that has lost its journal may receive an order again and start the attempt a
// second time. The control plane cancels that and keeps the outcome of the first start.
func TestSecondStartOfAnAttemptIsCancelled(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, request("a", "lb-1"))
		f.send(t, 1)
		at := func(u tasker.Report, received time.Time) tasker.Report {
			u.Update.ReceivedAt = &received
			return u
		}
		began := f.Now()
		f.Add(time.Second)
		end := at(update("lb-1", task.ID, 1, 2, tasker.Succeeded), began)
		finished := f.Now()
		end.Update.FinishedAt = &finished
		f.apply(t, end)
		f.Add(time.Second)
		f.apply(t, at(update("lb-1", task.ID, 1, 1, tasker.Running), began)) // a delayed report
		f.claim(t, 0)
		f.apply(t, at(update("lb-1", task.ID, 1, 1, tasker.Received), f.Now()))
		if c := f.claim(t, 1); !c[0].Cancel || c[0].Order.Cancel.Attempt != 1 {
			t.Errorf("claimed %+v, want a cancel of attempt 1", c[0])
		}
		f.apply(t, at(update("lb-1", task.ID, 1, 3, tasker.Cancelled), f.Now()))
		f.want(t, task.ID, "succeeded", "lb-1", "succeeded")
	})
}

// A cancel that could not be sent is retried until the response has ended, and at once
// when the agent connects again.
func TestCancelIsRetried(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, request("a", "lb-1"))
		f.send(t, 1)
		f.apply(t, update("lb-1", task.ID, 1, 1, tasker.Running))
		f.Add(3 * time.Hour)
		f.cancel(t, "a")
		claims := f.claim(t, 1)
		if !claims[0].Order.Expires.After(f.Now()) {
			t.Errorf("the cancel of a running attempt expires at %v, now is %v", claims[0].Order.Expires, f.Now())
		}
		must(t, f.MarkUnsent(t.Context(), []store.Unsent{{Claim: claims[0], Reason: "offline", After: 30 * time.Second}}))
		f.claim(t, 0)
		f.apply(t, hello("lb-1", "s1", tasker.AssignmentRef{TaskID: task.ID, Attempt: 1}))
		f.send(t, 1)
		// The cancel may have been lost with the connection.
		f.apply(t, hello("lb-1", "s2", tasker.AssignmentRef{TaskID: task.ID, Attempt: 1}))
		claims = f.claim(t, 1)
		f.apply(t, update("lb-1", task.ID, 1, 2, tasker.Succeeded))
		must(t, f.MarkUnsent(t.Context(), []store.Unsent{{Claim: claims[0], Reason: "offline", After: time.Second}}))
		f.Add(time.Minute)
		f.claim(t, 0)
		f.want(t, task.ID, "succeeded", "lb-1", "succeeded")
	})
}

func TestRetry(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, request("a", "lb-1", "lb-2", "lb-3"))
		retry := func() error {
			_, err := f.RetryTask(t.Context(), "ping", "a", "bob")
			return err
		}
		if err := retry(); !errors.Is(err, store.ErrUnfinished) {
			t.Errorf("retry of an open task = %v, want ErrUnfinished", err)
		}
		f.send(t, 3)
		f.cancel(t, "a")
		failed := update("lb-2", task.ID, 1, 5, tasker.Failed)
		failed.Update.Error, failed.Update.Result, failed.Update.Output = "e", []byte("1"), []tasker.Chunk{{Data: []byte("old")}}
		f.apply(t, update("lb-1", task.ID, 1, 1, tasker.Succeeded), failed)
		f.Add(time.Minute)
		f.expire(t, 1)
		f.want(t, task.ID, "incomplete", "lb-1", "succeeded", "lb-2", "failed", "lb-3", "missing")
		before, _ := f.task(t, task.ID)
		f.newCommits()
		must(t, retry())
		after, responses := f.task(t, task.ID)
		f.want(t, task.ID, "running", "lb-1", "succeeded", "lb-2", "pending", "lb-3", "pending")
		if after.CancelRequestedAt != nil || after.FinishedAt != nil || after.Version != before.Version+1 ||
			!after.ReceiveDeadline.Equal(f.Now().Add(30*time.Second)) {
			t.Errorf("task %+v", after)
		}
		want := tasker.Response{TaskID: task.ID, Endpoint: "lb-2", Status: "pending", Attempt: 2, Version: after.Version}
		if diff := cmp.Diff(want, responses["lb-2"]); diff != "" {
			t.Errorf("response (-want +got):\n%s", diff)
		}
		if c := f.newCommits(); len(c) != 1 || !c[0].Due {
			t.Errorf("commits %+v", c)
		}
		out, err := f.Output(t.Context(), "ping", "a", "lb-2")
		must(t, err)
		if len(out.Chunks) != 0 || out.Attempt != 2 {
			t.Errorf("output of the last attempt %+v", out)
		}
		for _, c := range f.send(t, 2) {
			if a := c.Order.Assignment; a.Attempt != 2 || !a.Deadline.Equal(after.ReceiveDeadline) {
				t.Errorf("assignment %+v", a)
			}
		}
		// A report on the first attempt has no effect on the second.
		a := f.apply(t, update("lb-3", task.ID, 1, 9, tasker.Failed))
		if a.Updates["stale"] != 1 {
			t.Errorf("updates %v", a.Updates)
		}
		f.apply(t, update("lb-2", task.ID, 2, 1, tasker.Succeeded), update("lb-3", task.ID, 2, 1, tasker.Succeeded))
		f.want(t, task.ID, "succeeded", "lb-1", "succeeded", "lb-2", "succeeded", "lb-3", "succeeded")
		if err := retry(); !errors.Is(err, store.ErrNothingToRetry) {
			t.Errorf("retry of a succeeded task = %v, want ErrNothingToRetry", err)
		}
		if _, err := f.RetryTask(t.Context(), "ping", "nothing", ""); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("retry of an unknown task = %v, want ErrNotFound", err)
		}
	})
}
