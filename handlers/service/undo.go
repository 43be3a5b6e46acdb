package service

import (
	"context"
	"errors"
	"fmt"

	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
)

// unitSnapshot is the state of a unit from before a task.
type unitSnapshot struct {
	Unit    string `json:"unit"`
	Active  bool   `json:"active"`
	Enabled string `json:"enabled"`
}

// undo restores the state of a unit from before a task.
func (op *operation) undo(ctx context.Context) error {
	var before unitSnapshot
	err := op.snapshots.Load(op.call.Undoes, &before)
	if errors.Is(err, snapshot.ErrNotFound) {
		op.outcome.Reason = err.Error()
		return nil
	}
	if err != nil {
		return err
	}
	if op.call.Resumed {
		op.resume(nil)
	}
	var steps []verb
	switch before.Enabled {
	case "enabled":
		steps = append(steps, enable)
	case "disabled":
		steps = append(steps, disable)
	}
	if before.Active {
		steps = append(steps, start)
	} else {
		steps = append(steps, stop)
	}
	if err := op.run(ctx, op.effective(steps)); err != nil {
		return err
	}
	now := op.outcome.To
	if now.active() != before.Active || now.Enabled != before.Enabled && (before.Enabled == "enabled" || before.Enabled == "disabled") {
		return fmt.Errorf("%s is %s and %s; before the task it was %s and active was %v", op.unit, now, now.Enabled, before.Enabled, before.Active)
	}
	return op.snapshots.Delete(op.call.Undoes)
}

// attempt is the state of a unit at the beginning of an attempt. The next agent process
// needs it to resume the attempt.
type attempt struct {
	From       State  `json:"from"`
	Invocation string `json:"invocation"`
}

func (op *operation) attemptName() string {
	return fmt.Sprintf("%s.%d", op.call.TaskID, op.call.Attempt)
}

// saveAttempt saves the state at the beginning of this attempt. The state that an earlier
// agent process has saved stays.
func (op *operation) saveAttempt() error {
	return op.snapshots.Save(op.attemptName(), attempt{From: op.outcome.From, Invocation: op.current.invocation})
}

func (op *operation) deleteAttempt() {
	if err := op.snapshots.Delete(op.attemptName()); err != nil {
		op.log.Warn("cannot delete the state of an attempt", "error", err)
	}
}

// resume loads the attempt of an earlier agent process and returns the remaining steps. A
// unit that was already restarted is not restarted again.
func (op *operation) resume(steps []verb) []verb {
	var a attempt
	if err := op.snapshots.Load(op.attemptName(), &a); err != nil {
		return steps // The earlier process has not started a step.
	}
	op.outcome.From = a.From
	var remaining []verb
	for _, v := range steps {
		if v == restart && (op.current.hasJob || op.current.invocation != a.Invocation) {
			// start only waits if systemd still restarts the unit.
			op.outcome.Changed = true
			v = start
		}
		remaining = append(remaining, v)
	}
	return remaining
}
