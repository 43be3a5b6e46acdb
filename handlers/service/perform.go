package service

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// perform does what a payload says, or says what that would change.
func (w *work) perform(ctx context.Context, p Payload) error {
	steps := []verb{p.Verb}
	switch {
	case p.Now && p.Verb == enable:
		steps = append(steps, start)
	case p.Now:
		steps = append(steps, stop)
	}
	for _, v := range steps {
		if err := w.refuse(ctx, v); err != nil {
			return err
		}
	}
	if w.call.Action == tasker.Plan {
		for _, v := range w.needed(steps) {
			w.out.Changed = true
			w.out.To = v.leads(w.out.To)
		}
		return nil
	}
	if w.call.Resumed {
		steps = w.resume(steps)
	}
	if steps = w.needed(steps); len(steps) == 0 && !w.call.Resumed {
		return nil
	}
	record := wasState{Unit: w.unit, Active: w.now.active(), Enabled: w.now.Enabled}
	if err := w.before.Save(w.call.TaskID, record); err != nil {
		return err
	}
	return w.run(ctx, steps)
}

// refuse rejects what systemd would refuse, or what would end the agent.
func (w *work) refuse(ctx context.Context, v verb) error {
	s := w.now
	switch v {
	case start, restart:
		if !s.canStart {
			return handlers.Reject("%s cannot be %s by hand: its file says RefuseManualStart=, or it is of a kind that cannot", w.unit, v.done())
		}
	case stop:
		if !s.canStop {
			return handlers.Reject("%s cannot be stopped by hand: its file says RefuseManualStop=, or systemd needs it", w.unit)
		}
		if own, err := w.GetUnitNameByPID(ctx, uint32(os.Getpid())); err == nil && own == w.unit { //nolint:gosec // a PID is no more
			return handlers.Reject("%s is this agent: it could report nothing of its end, and could not be started by a task again", w.unit)
		}
	case reload:
		if !s.reload {
			return handlers.Reject("%s cannot be reloaded: its file has no ExecReload=; restart it", w.unit)
		}
		if !s.active() && !w.call.Resumed {
			return handlers.Reject("%s is %s: there is nothing to reload; start it", w.unit, s.State)
		}
	case enable, disable:
		switch s.Enabled {
		case "enabled", "enabled-runtime", "disabled", "indirect", "linked", "linked-runtime":
		default:
			return handlers.Reject("%s cannot be %s: systemd calls its file %q; one that is to be started at boot has an [Install] section", w.unit, v.done(), s.Enabled)
		}
	}
	return nil
}

// needed leaves out the steps that would change nothing.
func (w *work) needed(steps []verb) []verb {
	var needed []verb
	for _, v := range steps {
		switch {
		case v == start && w.now.active() && !w.now.busy:
		case v == stop && (w.now.Active == "inactive" || w.now.Active == "failed") && !w.now.busy:
		case v == enable && w.now.Enabled == "enabled":
		case v == disable && w.now.Enabled == "disabled":
		default:
			needed = append(needed, v)
		}
	}
	return needed
}

// leads is how a unit is after a step.
func (v verb) leads(s State) State {
	switch v {
	case start, restart, reload:
		return State{Active: "active", Enabled: s.Enabled}
	case stop:
		return State{Active: "inactive", Enabled: s.Enabled}
	case enable:
		s.Enabled = "enabled"
	case disable:
		s.Enabled = "disabled"
	}
	return s
}

// run does the steps, and says in the outcome how the unit is then.
func (w *work) run(ctx context.Context, steps []verb) error {
	err := w.note()
	if err != nil {
		return err
	}
	for i, v := range steps {
		w.call.Progress(100*float64(i)/float64(len(steps)), string(v)+" "+w.unit)
		if err = w.step(ctx, v); err != nil {
			break
		}
	}
	if errors.Is(context.Cause(ctx), handlers.ErrStopping) && err != nil {
		return err // systemd goes on with it, and the next process is told.
	}
	var failed *FailedError
	if errors.As(err, &failed) {
		w.out.Journal = failed.Journal
	}
	s, showErr := w.show(context.WithoutCancel(ctx), w.unit)
	if showErr != nil {
		return errors.Join(err, showErr)
	}
	w.out.To = s.State
	w.out.Changed = w.out.Changed || s.active() != w.out.From.active() || s.Enabled != w.out.From.Enabled
	w.forget()
	if err != nil && s.Enabled != w.out.From.Enabled {
		err = fmt.Errorf("%w\n%s is %s now and was %s", err, w.unit, s.Enabled, w.out.From.Enabled)
	}
	return err
}

// step does one of the steps.
func (w *work) step(ctx context.Context, v verb) error {
	if ctx.Err() != nil {
		return w.end(ctx, context.Cause(ctx))
	}
	switch v {
	case enable:
		_, changes, err := w.EnableUnitFilesContext(ctx, []string{w.unit}, false, false)
		return w.linked(ctx, v, len(changes), err)
	case disable:
		changes, err := w.DisableUnitFilesContext(ctx, []string{w.unit}, false)
		return w.linked(ctx, v, len(changes), err)
	}
	w.out.Changed = w.out.Changed || v == restart || v == reload
	if err := w.change(ctx, v, w.unit, w.now, w.settle); err != nil {
		return w.end(ctx, err)
	}
	return nil
}

// linked has systemd see what was done to the links of a unit.
func (w *work) linked(ctx context.Context, v verb, changes int, err error) error {
	if err == nil && changes > 0 {
		w.out.Changed = true
		err = w.ReloadContext(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", v, w.unit, err)
	}
	return nil
}

// end stops a unit again that was not active and for which there is no more time to
// become so; a unit that was active is left as it is.
func (w *work) end(ctx context.Context, err error) error {
	if ctx.Err() == nil || errors.Is(context.Cause(ctx), handlers.ErrStopping) || w.out.From.active() {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if stopErr := w.change(ctx, stop, w.unit, w.now, 0); stopErr != nil {
		return fmt.Errorf("%w\n%w", err, stopErr)
	}
	return fmt.Errorf("%w\nas it was not active before, it was stopped again", err)
}
