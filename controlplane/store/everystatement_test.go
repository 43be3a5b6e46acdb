package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/rollout/decision"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// fill loads the data of a control plane that has run for a while: mostly ended tasks.
func fill(t *testing.T, f *fixture) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	names := make([]string, 20)
	for i := range names {
		names[i] = fmt.Sprintf("ep-%04d", i)
		f.apply(t, heartbeat(names[i]))
	}
	f.apply(t, f.heartbeats()...)
	var reports []tasker.Report
	tasks := 1500
	if f.Dialect() == "sqlite" {
		tasks = 200 // without ANALYZE its plans do not depend on the number
	}
	for i := range tasks {
		n := request(fmt.Sprintf("old-%d", i), names[:2]...)
		if i%100 == 0 {
			n.Endpoints = names
		}
		if i%150 == 7 {
			n.Endpoints = nil
		}
		task := f.create(t, n)
		status := tasker.Succeeded
		if i%50 == 1 {
			status = tasker.Running
		}
		if i > tasks-50 {
			continue
		}
		for _, name := range n.Endpoints {
			u := update(name, task.ID, 1, 1, status)
			u.Update.Output = []tasker.Chunk{{Data: []byte("x")}}
			reports = append(reports, u)
		}
	}
	f.apply(t, reports...)
	// A range of endpoints is a part of the table: there are names before and after it. If a
	// range has every row, a scan is the right plan.
	for i := range 1000 {
		_, err := f.Writer().ExecContext(ctx, "INSERT INTO credentials (endpoint, token_id, revoked_by) VALUES (?, '', '')", fmt.Sprintf("%c-gone-%04d", "az"[i%2], i))
		must(t, err)
	}
	for i := range tasks {
		_, err := f.Writer().ExecContext(ctx, "INSERT INTO callbacks (id, task_id, event, url, at, attempts, delivered_at, last_error) SELECT ?, id, 'finished', '', 0, 1, 1, '' FROM tasks WHERE type = 'ping' AND identifier = ?",
			fmt.Sprintf("call-%d", i), fmt.Sprintf("old-%d", i))
		must(t, err)
	}
	if f.Dialect() == "mysql" {
		_, err := f.Writer().ExecContext(ctx, "ANALYZE TABLE tasks, responses, chunks, endpoints, credentials, callbacks")
		must(t, err)
	}
}

// heartbeats are heartbeats of endpoints without tasks.
func (f *fixture) heartbeats() []tasker.Report {
	var reports []tasker.Report
	for i := 100; i < 1000; i++ {
		reports = append(reports, heartbeat(fmt.Sprintf("ep-%04d", i)))
	}
	return reports
}

// callEverything calls every method, so that each statement runs.
func callEverything(t *testing.T, f *fixture) {
	t.Helper()
	ctx := t.Context()
	task := f.create(t, request("x", "ep-0000", "ep-0001", "ep-0002"))
	for _, id := range []string{"y", "z"} {
		f.create(t, request(id, "ep-0003"))
	}
	f.create(t, request("all"))
	_, _, err := f.CreateTask(ctx, request("x", "ep-0000", "ep-0001", "ep-0002"))
	must(t, err)
	for range 2 {
		must(t, f.ReleaseClaims(ctx))
		claims, err := f.ClaimDue(ctx, 20)
		must(t, err)
		must(t, f.MarkSent(ctx, claims[:10]))
		var unsent []store.Unsent
		for _, c := range claims[10:] {
			unsent = append(unsent, store.Unsent{Claim: c, Reason: "x", After: time.Second})
		}
		must(t, f.MarkUnsent(ctx, unsent))
	}
	f.apply(t, hello("ep-0002", "s"), hello("ep-0003", "s"), hello("new", "s"))
	u := update("ep-0000", task.ID, 1, 1, tasker.Running)
	u.Update.Output = []tasker.Chunk{{Data: []byte("x")}}
	f.apply(t, u, update("ep-0001", task.ID, 1, 1, tasker.Running))
	_, err = f.CancelTask(ctx, "ping", "x", "")
	must(t, err)
	_, err = f.ClaimDue(ctx, 1000)
	must(t, err)
	_, err = f.Stats(ctx)
	must(t, err)
	for _, q := range []store.TaskQuery{{}, {Status: "pending"}} {
		q.Type, q.Limit = "ping", 5
		for range 2 {
			page, err := f.Tasks(ctx, q)
			must(t, err)
			q.Cursor = page.Next
		}
	}
	_, _, err = f.TaskWithResponses(ctx, "ping", "x")
	must(t, err)
	_, err = f.TaskVersion(ctx, task.ID)
	must(t, err)
	_, err = f.OpenResponses(ctx, task.ID)
	must(t, err)
	_, _, err = f.Changes(ctx, task.ID, 2)
	must(t, err)
	_, err = f.Output(ctx, "ping", "x", "ep-0000")
	must(t, err)
	_, err = f.Endpoints(ctx, 10, "ep-0100")
	must(t, err)
	_, err = f.Endpoint(ctx, "ep-0100")
	must(t, err)
	callRollouts(t, f)
	f.Add(time.Minute)
	if n, _, err := f.ExpireMissing(ctx, time.Time{}, 50); err != nil || n == 0 {
		t.Fatalf("ExpireMissing = %d, %v", n, err)
	}
	f.Add(2 * time.Hour)
	f.apply(t, f.heartbeats()...)
	if n, _, err := f.ExpireSilent(ctx, time.Hour, 50); err != nil || n == 0 {
		t.Fatalf("ExpireSilent = %d, %v", n, err)
	}
	for range 20 {
		_, _, err = f.ExpireMissing(ctx, time.Time{}, 1000)
		must(t, err)
	}
	_, err = f.RetryTask(ctx, "ping", "y", "")
	must(t, err)
	f.token(t, "t", 3)
	_, err = f.EnrolTokens(ctx, 10)
	must(t, err)
	for range 2 {
		_, err = f.Enrol(ctx, digest("t"), "ep-2000", digest("s"))
		must(t, err)
	}
	_, err = f.Identify(ctx, digest("s"))
	must(t, err)
	_, err = f.Credential(ctx, "ep-2000")
	must(t, err)
	_, err = f.Credentials(ctx, []string{"ep-2000", "ep-0001"})
	must(t, err)
	must(t, f.LabelEndpoint(ctx, "ep-2000", map[string]string{"role": "web"}, nil))
	_, err = f.RevokeEndpoint(ctx, "ep-2000", "")
	must(t, err)
	f.Add(time.Second)
	f.token(t, "later", 3)
	_, err = f.Enrol(ctx, digest("later"), "ep-2000", digest("new"))
	must(t, err)
	_, err = f.RevokeEndpoint(ctx, "ep-0002", "")
	must(t, err)
	must(t, f.AddSigningKeys(ctx, store.SigningKey{Name: store.OrderKeys, Generation: 1, Public: make([]byte, 32)}))
	_, err = f.Seed(ctx, store.OrderKeys)
	must(t, err)
	_, err = f.ListSigningKeys(ctx, store.OrderKeys)
	must(t, err)
	called := f.create(t, withCallback("called", tasker.CallbackEvents(), "ep-0005"))
	f.apply(t, update("ep-0005", called.ID, 1, 1, tasker.Succeeded))
	calls, err := f.ClaimCalls(ctx, 10)
	must(t, err)
	must(t, f.RecordCall(ctx, store.CallResult{Call: calls[0]}))
	_, err = f.Deliveries(ctx, called.ID)
	must(t, err)
	must(t, f.RevokeEnrolToken(ctx, "id-of-t"))
}

// callRollouts calls every method of rollouts.
func callRollouts(t *testing.T, f *fixture) {
	t.Helper()
	ctx := t.Context()
	task := f.inWaves(t, "waves", true, "ep-0000", "ep-0001", "ep-0002")
	f.inWaves(t, "others", false, "ep-0000")
	_, err := f.DueRollouts(ctx, 100)
	must(t, err)
	f.step(t, task.ID, decision.Step{State: tasker.RolloutWaiting})
	f.step(t, task.ID, releaseWave())
	_, err = f.GatingRollout(ctx, task.ID)
	must(t, err)
	f.step(t, task.ID, decision.Step{State: tasker.RolloutGating})
	_, err = f.GatingRollout(ctx, task.ID)
	must(t, err)
	_, err = f.PauseTask(ctx, "ping", "waves", "")
	must(t, err)
	_, err = f.ResumeTask(ctx, "ping", "waves", "")
	must(t, err)
	now := f.Now()
	u := update("ep-0000", task.ID, 1, 1, tasker.Failed)
	u.Update.StartedAt = &now
	f.apply(t, u)
	f.step(t, task.ID, decision.Step{State: tasker.RolloutStopped, Reason: "x", Skip: true})
	undo, err := f.UndoTask(ctx, "ping", "waves", "")
	must(t, err)
	f.apply(t, update("ep-0000", undo.ID, 1, 1, tasker.Succeeded))
	f.undoneBy(t, task.ID, undo.ID)
	_, err = f.RetryTask(ctx, "ping", "waves", "")
	must(t, err)
	_, err = f.Controls(ctx, task.ID)
	must(t, err)
	_, err = f.Select(ctx, func(tasker.Endpoint) bool { return true })
	must(t, err)
	must(t, f.ReleaseLease(ctx, leader()))
}
