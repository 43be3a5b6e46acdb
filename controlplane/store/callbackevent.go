package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"github.com/MatthiasWiesner/tasker"
)

// callbackEvents returns the events of the task's change that its callback wants.
func (t *taskRow) callbackEvents() []tasker.CallbackEvent {
	var events []tasker.CallbackEvent
	add := func(e tasker.CallbackEvent, happened bool) {
		if happened && t.Callback.HasEvent(e) {
			events = append(events, e)
		}
	}
	add(tasker.CallbackPaused, t.paused && !t.wasPaused)
	add(tasker.CallbackIncomplete, t.Status == tasker.TaskIncomplete && t.wasStatus != tasker.TaskIncomplete)
	add(tasker.CallbackFinished, t.FinishedAt != nil && (!t.wasFinished || t.Status != t.wasStatus))
	return events
}

// callbackTask is the task in a callback, without its large, constant fields.
type callbackTask struct {
	tasker.Task
	Payload   *struct{} `json:"payload,omitempty"`
	Endpoints *struct{} `json:"endpoints,omitempty"`
}

// insertCallbacks stores the callbacks for a task that has changed.
func insertCallbacks(ctx context.Context, cs *changeSet, t *taskRow) error {
	events := t.callbackEvents()
	if len(events) == 0 {
		return nil
	}
	task := callbackTask{Task: t.Task}
	if t.pacing != pacedNever {
		r, err := lockRollout(ctx, cs, t.ID)
		if err != nil {
			return err
		}
		task.Rollout = &r.Rollout
	}
	data, err := json.Marshal(task)
	if err != nil {
		return fmt.Errorf("write the callback of task %s: %w", t.ID, err)
	}
	var rows [][]any
	for _, event := range events {
		id, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("make an id: %w", err)
		}
		rows = append(rows, []any{id.String(), t.ID, string(event), t.Callback.URL, cs.Now, data, 0, cs.Now, ""})
	}
	cs.commit.Callbacks = true
	columns := []string{"id", "task_id", "event", "url", "at", "data", "attempts", "next_at", "last_error"}
	if err := cs.Insert(ctx, "callbacks", columns, rows); err != nil {
		return fmt.Errorf("write the callback of task %s: %w", t.ID, err)
	}
	return nil
}
