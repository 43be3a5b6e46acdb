package service

import (
	"context"
	"errors"
	"fmt"

	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
)

// wasState is how a unit was before a task.
type wasState struct {
	Unit    string `json:"unit"`
	Active  bool   `json:"active"`
	Enabled string `json:"enabled"`
}

// undo brings a unit back to how it was before a task.
func (w *work) undo(ctx context.Context) error {
	var was wasState
	err := w.before.Load(w.call.Undoes, &was)
	if errors.Is(err, snapshot.ErrNotFound) {
		w.out.Reason = err.Error()
		return nil
	}
	if err != nil {
		return err
	}
	if w.call.Resumed {
		w.resume(nil)
	}
	var steps []verb
	switch was.Enabled {
	case "enabled":
		steps = append(steps, enable)
	case "disabled":
		steps = append(steps, disable)
	}
	if was.Active {
		steps = append(steps, start)
	} else {
		steps = append(steps, stop)
	}
	if err := w.run(ctx, w.needed(steps)); err != nil {
		return err
	}
	is := w.out.To
	if is.active() != was.Active || is.Enabled != was.Enabled && (was.Enabled == "enabled" || was.Enabled == "disabled") {
		return fmt.Errorf("%s is %s and %s; before the task it was %s and active was %v", w.unit, is, is.Enabled, was.Enabled, was.Active)
	}
	return w.before.Delete(w.call.Undoes)
}

// note is what the next agent process has to know of a call.
type note struct {
	From       State  `json:"from"`
	Invocation string `json:"invocation"`
}

func (w *work) noteName() string { return fmt.Sprintf("%s.%d", w.call.TaskID, w.call.Attempt) }

// note keeps how the unit is before this attempt; the note of an earlier process stays.
func (w *work) note() error {
	return w.before.Save(w.noteName(), note{From: w.out.From, Invocation: w.now.invocation})
}

func (w *work) forget() {
	if err := w.before.Delete(w.noteName()); err != nil {
		w.log.Warn("what was noted of a task cannot be removed", "error", err)
	}
}

// resume takes the note of an earlier process, and returns what is left to do of the
// steps: a unit that was restarted is not restarted again.
func (w *work) resume(steps []verb) []verb {
	var n note
	if err := w.before.Load(w.noteName(), &n); err != nil {
		return steps // It had not got that far.
	}
	w.out.From = n.From
	var left []verb
	for _, v := range steps {
		if v == restart && (w.now.busy || w.now.invocation != n.Invocation) {
			// Whatever became of it: where systemd is still at it, this only waits.
			w.out.Changed = true
			v = start
		}
		left = append(left, v)
	}
	return left
}
