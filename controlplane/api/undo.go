package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/MatthiasWiesner/tasker"
)

// errCannotUndo: a task that undoes the task would be rejected everywhere.
var errCannotUndo = errors.New("the task cannot be undone")

// cannotUndo says, as a part of a sentence, why a task with this payload cannot be
// undone; empty if it can, or if only the agents know. Of a payload that is no object
// its schema says so.
func (t Type) cannotUndo(payload []byte) string {
	if !t.Undoes {
		return fmt.Sprintf("the handler %s cannot undo", t.Handler)
	}
	var fields map[string]json.RawMessage
	if t.UndoNeeds == "" || json.Unmarshal(payload, &fields) != nil {
		return ""
	}
	if _, found := fields[t.UndoNeeds]; found {
		return ""
	}
	return fmt.Sprintf("the payload has no %s, without which the handler %s cannot undo", t.UndoNeeds, t.Handler)
}

// undo makes the task that undoes one, unless that could only be rejected.
func (r taskRoutes) undo(ctx context.Context, taskType, ref, by string) (tasker.Task, error) {
	task, err := r.store.Task(ctx, taskType, ref)
	if err != nil {
		return tasker.Task{}, err
	}
	if why := r.cannotUndo(task.Payload); why != "" {
		return tasker.Task{}, fmt.Errorf("%w: %s", errCannotUndo, why)
	}
	return r.store.UndoTask(ctx, taskType, ref, by)
}
