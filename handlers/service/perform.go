package service

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/systemd"
)

// perform performs a payload, or predicts its changes in a dry run.
func (op *operation) perform(ctx context.Context, p Payload) error {
	steps := []verb{p.Verb}
	switch {
	case p.Now && p.Verb == enable:
		steps = append(steps, start)
	case p.Now:
		steps = append(steps, stop)
	}
	for _, v := range steps {
		if err := op.checkVerb(ctx, v); err != nil {
			return err
		}
	}
	if op.call.Action == tasker.DryRun {
		for _, v := range op.effective(steps) {
			op.outcome.Changed = true
			op.outcome.To = v.predict(op.outcome.To)
		}
		return nil
	}
	if op.call.Resumed {
		steps = op.resume(steps)
	}
	if steps = op.effective(steps); len(steps) == 0 && !op.call.Resumed {
		return nil
	}
	before := unitSnapshot{Unit: op.unit, Active: op.current.active(), Enabled: op.current.Enabled}
	if err := op.snapshots.Save(op.call.TaskID, before); err != nil {
		return err
	}
	return op.run(ctx, steps)
}

// checkVerb rejects a verb that systemd would refuse for this unit, or that would end the
// agent.
func (op *operation) checkVerb(ctx context.Context, v verb) error {
	s := op.current
	switch v {
	case start, restart:
		if !s.canStart {
			return handlers.Reject("%s cannot be %s by hand: its file has RefuseManualStart=, or its kind does not permit it", op.unit, v.participle())
		}
	case stop:
		if !s.canStop {
			return handlers.Reject("%s cannot be stopped by hand: its file has RefuseManualStop=, or systemd needs it", op.unit)
		}
		if own, err := op.GetUnitNameByPID(ctx, uint32(os.Getpid())); err == nil && own == op.unit { //nolint:gosec // a PID fits
			return handlers.Reject("%s is this agent: once stopped, it could not report the result, and no task could start it again", op.unit)
		}
	case reload:
		if !s.canReload {
			return handlers.Reject("%s cannot be reloaded: its file has no ExecReload=; restart it", op.unit)
		}
		if !s.active() && !op.call.Resumed {
			return handlers.Reject("%s is %s and cannot be reloaded; start it", op.unit, s.State)
		}
	case enable, disable:
		switch s.Enabled {
		case "enabled", "enabled-runtime", "disabled", "indirect", "linked", "linked-runtime":
		default:
			return handlers.Reject("%s cannot be %s: the state of its file is %q; only a unit with an [Install] section can start at boot", op.unit, v.participle(), s.Enabled)
		}
	}
	return nil
}

// effective returns the steps that change the current state.
func (op *operation) effective(steps []verb) []verb {
	s := op.current
	var effective []verb
	for _, v := range steps {
		switch {
		case v == start && s.active() && !s.hasJob:
		case v == stop && (s.Active == "inactive" || s.Active == "failed") && !s.hasJob:
		case v == enable && s.Enabled == "enabled":
		case v == disable && s.Enabled == "disabled":
		default:
			effective = append(effective, v)
		}
	}
	return effective
}

// run executes the steps and sets the outcome.
func (op *operation) run(ctx context.Context, steps []verb) error {
	err := op.saveAttempt()
	if err != nil {
		return err
	}
	for i, v := range steps {
		op.call.Progress(100*float64(i)/float64(len(steps)), string(v)+" "+op.unit)
		if err = op.step(ctx, v); err != nil {
			break
		}
	}
	if errors.Is(context.Cause(ctx), handlers.ErrStopping) && err != nil {
		return err // systemd continues with the job, and the next agent process resumes.
	}
	var failed *FailedError
	if errors.As(err, &failed) {
		op.outcome.Journal = failed.Journal
	}
	s, stateErr := stateOf(context.WithoutCancel(ctx), op.Conn, op.unit)
	if stateErr != nil {
		return errors.Join(err, stateErr)
	}
	from := op.outcome.From
	op.outcome.To = s.State
	op.outcome.Changed = op.outcome.Changed || s.active() != from.active() || s.Enabled != from.Enabled
	op.deleteAttempt()
	if err != nil && s.Enabled != from.Enabled {
		err = fmt.Errorf("%w\n%s is %s now and was %s", err, op.unit, s.Enabled, from.Enabled)
	}
	return err
}

// step executes one step.
func (op *operation) step(ctx context.Context, v verb) error {
	if ctx.Err() != nil {
		return op.abort(ctx, context.Cause(ctx))
	}
	switch v {
	case enable:
		_, changes, err := op.EnableUnitFilesContext(ctx, []string{op.unit}, false, false)
		return op.reloadLinks(ctx, v, len(changes), err)
	case disable:
		changes, err := op.DisableUnitFilesContext(ctx, []string{op.unit}, false)
		return op.reloadLinks(ctx, v, len(changes), err)
	}
	op.outcome.Changed = op.outcome.Changed || v == restart || v == reload
	if err := apply(ctx, op.Conn, v, op.unit, op.current, op.settle); err != nil {
		return op.abort(ctx, err)
	}
	return nil
}

// reloadLinks makes systemd read the links that enable or disable has changed. err is the
// error of that change.
func (op *operation) reloadLinks(ctx context.Context, v verb, changes int, err error) error {
	if err == nil && changes > 0 {
		op.outcome.Changed = true
		err = op.ReloadContext(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", v, op.unit, err)
	}
	return nil
}

// abort stops a unit that did not become active before ctx was done. A unit that was active
// before the task is left alone.
func (op *operation) abort(ctx context.Context, err error) error {
	if ctx.Err() == nil || errors.Is(context.Cause(ctx), handlers.ErrStopping) || op.outcome.From.active() {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), systemd.Timeout)
	defer cancel()
	if stopErr := apply(ctx, op.Conn, stop, op.unit, op.current, 0); stopErr != nil {
		return fmt.Errorf("%w\n%w", err, stopErr)
	}
	return fmt.Errorf("%w\nit was not active before, so it was stopped again", err)
}
