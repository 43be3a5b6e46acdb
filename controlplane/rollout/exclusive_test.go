package rollout

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/rollout/decision"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
)

// TestExclusiveModel checks random histories of rollouts on the same endpoints. An
// exclusive rollout never shares an endpoint with another one in progress, and all end.
func TestExclusiveModel(t *testing.T) {
	t.Parallel()
	for name, options := range storetest.Dialects() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &rivals{t: t, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), lease: store.Lease{Name: "rollouts", Holder: "a"}}
			o := options(t)
			o.Types, o.Clock = []tasker.TaskType{{Name: "ping", Handler: "ping"}}, func() time.Time { return c.now }
			c.store = storetest.Open(t, o)
			rapid.Check(t, func(r *rapid.T) {
				c.round++
				c.ids = nil
				r.Repeat(map[string]func(*rapid.T){
					"create": c.create, "advance": c.advance, "report": c.report, "wait": c.wait, "cancel": c.cancel,
					"retry": c.retry, "": c.check,
				})
				c.end(r)
			})
		})
	}
}

// rivals are rollouts on the same few endpoints.
type rivals struct {
	t     *testing.T
	store *store.Store
	now   time.Time
	lease store.Lease
	round int // names the endpoints, so that no rollout waits for one of an earlier round
	made  int
	seq   int64
	ids   []string
}

func (c *rivals) create(r *rapid.T) {
	if len(c.ids) == 5 {
		r.Skip("enough")
	}
	var names []string
	for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(1, 3), 1, 2, rapid.ID).Draw(r, "endpoints") {
		names = append(names, fmt.Sprintf("lb-%d-%d", c.round, i))
	}
	c.made++
	task, _, err := c.store.CreateTask(c.t.Context(), store.NewTask{
		Identifier: fmt.Sprint("t-", c.made), Type: "ping", Endpoints: names, ReceiveTimeout: 30 * time.Second,
		Rollout: &tasker.RolloutSpec{
			Batch: tasker.Amounts{{N: 1}}, MaxFailures: tasker.Amount{N: rapid.IntRange(0, 1).Draw(r, "max_failures")},
			Exclusive: rapid.Bool().Draw(r, "exclusive"),
			OnFailure: rapid.SampledFrom([]tasker.OnFailure{tasker.OnFailureStop, tasker.OnFailureRollback, tasker.OnFailureRollback}).Draw(r, "on_failure"),
		},
		Fingerprint: sha256.Sum256(fmt.Append(nil, c.made)),
	})
	must(c.t, err)
	c.ids = append(c.ids, task.ID)
}

// pick returns one of the rollouts.
func (c *rivals) pick(r *rapid.T) string {
	if len(c.ids) == 0 {
		r.Skip("no rollout")
	}
	return rapid.SampledFrom(c.ids).Draw(r, "task")
}

// advance advances the due rollouts in any order, and sends the due orders.
func (c *rivals) advance(r *rapid.T) {
	must(c.t, c.store.AcquireLease(c.t.Context(), c.lease, time.Hour))
	due, err := c.store.DueRollouts(c.t.Context(), 1_000_000)
	must(c.t, err)
	due = slices.DeleteFunc(due, func(id string) bool { return !slices.Contains(c.ids, id) })
	slices.Sort(due)
	if len(due) > 1 {
		due = rapid.Permutation(due).Draw(r, "due")
	}
	for _, id := range due {
		_, err := c.store.AdvanceRollout(c.t.Context(), c.lease, id, decision.Next)
		must(c.t, err)
		c.check(r)
	}
	claims, err := c.store.ClaimDue(c.t.Context(), 1000)
	must(c.t, err)
	must(c.t, c.store.MarkSent(c.t.Context(), claims))
}

// report ends a response, of a rollout or of the task that undoes it.
func (c *rivals) report(r *rapid.T) {
	id := c.pick(r)
	if task, err := c.store.Task(c.t.Context(), "ping", id); err != nil {
		r.Fatal(err)
	} else if task.Rollout.Rollback != "" {
		id = task.Rollout.Rollback
	}
	task, responses, err := c.store.TaskWithResponses(c.t.Context(), "ping", id)
	must(c.t, err)
	responses = slices.DeleteFunc(responses, func(r tasker.Response) bool {
		// An agent that was given up may still run the task after its end: no exclusion covers that.
		return r.SentAt == nil || r.Status.Ended() && (!r.Presumed || task.FinishedAt != nil)
	})
	if len(responses) == 0 {
		r.Skip("no agent has a task")
	}
	at := rapid.IntRange(0, len(responses)-1).Draw(r, "response")
	c.sendUpdate(responses[at], rapid.SampledFrom([]tasker.ResponseStatus{
		tasker.Running, tasker.Succeeded, tasker.Failed, tasker.Failed,
	}).Draw(r, "status"))
}

func (c *rivals) sendUpdate(r tasker.Response, status tasker.ResponseStatus) {
	c.seq++
	_, err := c.store.Apply(c.t.Context(), []tasker.Report{{Version: 1, Endpoint: r.Endpoint, Update: &tasker.Update{
		TaskID: r.TaskID, Type: "ping", Attempt: r.Attempt, Seq: c.seq, Status: status, StartedAt: &c.now,
	}}})
	must(c.t, err)
}

func (c *rivals) wait(r *rapid.T) {
	c.now = c.now.Add(time.Duration(rapid.IntRange(1, 40).Draw(r, "seconds")) * time.Second)
	_, _, err := c.store.ExpireMissing(c.t.Context(), time.Time{}, 1000)
	must(c.t, err)
}

func (c *rivals) cancel(r *rapid.T) {
	_, err := c.store.CancelTask(c.t.Context(), "ping", c.pick(r), "somebody")
	must(c.t, err)
}

func (c *rivals) retry(r *rapid.T) {
	_, err := c.store.RetryTask(c.t.Context(), "ping", c.pick(r), "somebody")
	if err != nil && !errors.Is(err, store.ErrUnfinished) && !errors.Is(err, store.ErrNothingToRetry) && !errors.Is(err, store.ErrUndoing) {
		r.Fatal(err)
	}
}

// check compares the stored state with the invariants after every step.
func (c *rivals) check(r *rapid.T) {
	at := map[string][]tasker.Task{} // the rollouts in progress on each endpoint
	for _, id := range c.ids {
		task, responses, err := c.store.TaskWithResponses(c.t.Context(), "ping", id)
		must(c.t, err)
		inProgress := task.Rollout.Wave > 0 && (!task.Rollout.State.Ended() || task.FinishedAt == nil)
		if task.Rollout.Rollback != "" {
			undo, err := c.store.Task(c.t.Context(), "ping", task.Rollout.Rollback)
			must(c.t, err)
			inProgress = inProgress || undo.FinishedAt == nil
		}
		if !inProgress {
			continue
		}
		for _, response := range responses {
			at[response.Endpoint] = append(at[response.Endpoint], task)
		}
	}
	for endpoint, tasks := range at {
		if len(tasks) > 1 && slices.ContainsFunc(tasks, func(t tasker.Task) bool { return t.Rollout.Exclusive }) {
			r.Fatalf("%s is in %d rollouts, one of them exclusive: %+v", endpoint, len(tasks), tasks)
		}
	}
}

// end lets every agent succeed, and checks that all rollouts end.
func (c *rivals) end(r *rapid.T) {
	var open []string
	for range 300 {
		open = nil
		for _, id := range c.ids {
			task, responses, err := c.store.TaskWithResponses(c.t.Context(), "ping", id)
			must(c.t, err)
			if undo := task.Rollout.Rollback; undo != "" {
				var more []tasker.Response
				_, more, err = c.store.TaskWithResponses(c.t.Context(), "ping", undo)
				must(c.t, err)
				responses = append(responses, more...)
			}
			for _, response := range responses {
				if response.SentAt != nil && !response.Status.Ended() {
					c.sendUpdate(response, tasker.Succeeded)
				}
			}
			if task.FinishedAt == nil || !task.Rollout.State.Ended() {
				open = append(open, fmt.Sprintf("%s %s: %s", id, task.Rollout.State, task.Rollout.Reason))
			}
		}
		if len(open) == 0 {
			return
		}
		c.now = c.now.Add(10 * time.Second)
		_, _, err := c.store.ExpireMissing(c.t.Context(), time.Time{}, 1000)
		must(c.t, err)
		c.advance(r)
	}
	r.Fatalf("the rollouts do not end: %q", open)
}
