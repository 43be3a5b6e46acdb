package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// newTaskRows is a new task with the rows that store it.
type newTaskRows struct {
	NewTask
	id      string
	task    *taskRow
	rollout *rolloutRow // nil if the task has none
	// claimed: the orders are stored as claimed, with claims as the result.
	claimed bool
	claims  []Claim
}

func newRows(t NewTask) (*newTaskRows, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make an id: %w", err)
	}
	return &newTaskRows{NewTask: t, id: id.String()}, nil
}

// insertTasks inserts tasks with their responses and rollouts.
func insertTasks(ctx context.Context, t *tx, list []*newTaskRows) error {
	var tasks []*taskRow
	var responses []*responseRow
	var rollouts []*rolloutRow
	for _, n := range list {
		n.fill(t.Now)
		tasks, responses = append(tasks, n.task), append(responses, n.responses()...)
		if n.rollout != nil {
			rollouts = append(rollouts, n.rollout)
			t.commit.Rollouts = true
		}
		t.commit.Tasks = append(t.commit.Tasks, n.id)
	}
	if err := newTaskColumns.Insert(ctx, &t.Conn, "tasks", tasks...); err != nil {
		return err
	}
	if err := newResponseColumns.Insert(ctx, &t.Conn, "responses", responses...); err != nil {
		return err
	}
	return rolloutColumns.Insert(ctx, &t.Conn, "rollouts", rollouts...)
}

// fill makes the rows of the task and its rollout.
func (n *newTaskRows) fill(now sqldb.Micros) {
	t := &taskRow{
		Task: tasker.Task{
			ID: n.id, Type: n.Type, Identifier: n.Identifier, Payload: n.Payload, Endpoints: n.Endpoints,
			Labels: n.Labels, Action: n.Action, Undoes: n.Undoes, Callback: n.Callback, Version: 1,
			Counts: tasker.Counts{}, CreatedAt: now.Time(), NotBefore: sqldb.MicrosOrNull(n.NotBefore).TimeOrNil(),
			ReceiveTimeout:  tasker.Duration(n.ReceiveTimeout.Truncate(time.Microsecond)),
			ReceiveDeadline: max(now, sqldb.MicrosOrNull(n.NotBefore)).Add(n.ReceiveTimeout).Time(),
			Timeout:         tasker.Duration(n.Timeout.Truncate(time.Microsecond)),
		},
		fingerprint: n.Fingerprint[:],
		broadcast:   n.Endpoints == nil,
		attempt:     1,
	}
	if len(t.Payload) == 0 {
		t.Payload = json.RawMessage("{}")
	}
	if t.broadcast {
		t.closesAt = t.deadline()
		t.nextSendAt, t.sendTries = n.firstSend(now)
	} else {
		t.Counts[tasker.Pending] = len(n.Endpoints)
	}
	t.deriveStatus(now)
	n.task, n.rollout = t, newRollout(n.NewTask, n.id, now)
	if n.rollout != nil {
		n.rollout.derive(t)
		t.Rollout = &n.rollout.Rollout
	}
}

// responses makes the rows of the task's responses. Responses of waves that have not
// begun have no deadline and nothing due.
func (n *newTaskRows) responses() []*responseRow {
	first := responseRow{
		Response:  tasker.Response{TaskID: n.id, Status: tasker.Pending, Attempt: n.task.attempt, Version: n.task.Version},
		expiresAt: n.task.deadline(),
	}
	first.nextSendAt, first.sendTries = n.firstSend(sqldb.MicrosOf(n.task.CreatedAt))
	if n.task.pacing == rolloutActive {
		first.expiresAt, first.nextSendAt = 0, 0
	}
	waves := make([]int, len(n.Endpoints))
	if n.rollout != nil {
		waves = n.rollout.waveNumbers()
	}
	rows := make([]*responseRow, len(n.Endpoints))
	for i, name := range n.Endpoints {
		r := first
		r.Endpoint, r.Wave = name, waves[i]
		rows[i] = &r
	}
	return rows
}

// firstSend returns when the task's orders are due and how often they were claimed.
func (n *newTaskRows) firstSend(now sqldb.Micros) (sqldb.Micros, int) {
	if n.claimed {
		return now.Add(ClaimHold), 1
	}
	return max(now, sqldb.MicrosOrNull(n.NotBefore)), 0
}
