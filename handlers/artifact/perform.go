package artifact

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
)

// was is the record of what was there before a task.
type was struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// state is what the place says of itself: the release to which the link leads, a
// switch that was not confirmed, and the last release that was.
func (d *deployment) state() (current, good string, open *pending, err error) {
	if current, err = d.place.current(); err != nil {
		return "", "", nil, err
	}
	d.out.From, d.out.Current = current, current
	if open, err = d.place.unconfirmed(); err != nil {
		return "", "", nil, err
	}
	if open != nil {
		return current, open.From, open, nil
	}
	return current, current, nil, nil
}

func (d *deployment) perform(ctx context.Context) error {
	current, good, open, err := d.state()
	if err != nil {
		return err
	}
	if open != nil && open.Failed != "" && open.Task == d.call.TaskID && open.Attempt == d.call.Attempt {
		return d.back(ctx, *open) // The agent went down on the way back.
	}
	made, err := d.ready(ctx)
	if err != nil {
		return err
	}
	if current == d.Version && !made && open == nil {
		return d.unchanged(ctx)
	}
	if good != d.Version {
		d.out.From = good
	}
	if current != d.Version {
		if err := d.hook(ctx, "hook before", 65, d.Version, d.Hooks.Before); err != nil {
			return err
		}
	}
	s := pending{Task: d.call.TaskID, Attempt: d.call.Attempt, From: good, To: d.Version}
	if err := d.replace(ctx, current, s); err != nil {
		return err
	}
	if err := d.activate(ctx, d.Version); err != nil {
		if errors.Is(context.Cause(ctx), handlers.ErrStopping) {
			return err // It is gone on with when the agent is back.
		}
		s.Step, s.Failed = d.out.Step, err.Error()
		if err := d.place.put(switchFile, s); err != nil {
			// On a full disk, say. An agent that is killed on the way back tries the new
			// release once more then, and comes here again.
			fmt.Fprintf(d.call.Output, "it cannot be noted that %s failed: %v\n", s.To, err)
		}
		return d.back(ctx, s)
	}
	if err := d.place.remove(switchFile); err != nil {
		return err
	}
	d.out.Changed = true
	d.prune(good)
	return nil
}

// unchanged is the end of a task that finds everything as it should be.
func (d *deployment) unchanged(ctx context.Context) error {
	var w was
	switch err := d.Snapshots.Load(d.call.TaskID, &w); {
	case errors.Is(err, snapshot.ErrNotFound):
		d.out.Note = d.Version + " is current already"
	case err != nil:
		return err
	default:
		// It was this task that did it, but the agent went down before it said so.
		d.out.Changed, d.out.From = true, w.From
	}
	return d.healthy(ctx, d.Version)
}

// replace switches to a release, and notes before that it does.
func (d *deployment) replace(ctx context.Context, current string, s pending) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	message := fmt.Sprintf("switching from %s to %s", orElse(current, "none"), s.To)
	if current == s.To {
		message = s.To + " is current, but was not seen working yet"
	}
	d.step("switch", 75, message)
	if d.out.From != s.To {
		if err := d.Snapshots.Save(d.call.TaskID, was{From: d.out.From, To: s.To}); err != nil {
			return err
		}
	}
	if err := d.place.put(switchFile, s); err != nil {
		return err
	}
	if current != s.To {
		if err := d.place.link(s.To); err != nil {
			return err
		}
	}
	d.out.Current = s.To
	return nil
}

// activate has the current release serve, and sees that it does.
func (d *deployment) activate(ctx context.Context, version string) error {
	d.since = time.Now()
	if d.Unit != "" {
		d.step("restart", 80, "restarting "+d.Unit)
		if err := d.Units.Restart(ctx, d.Unit); err != nil {
			return because(ctx, err)
		}
	}
	if err := d.hook(ctx, "hook after", 85, version, d.Hooks.After); err != nil {
		return err
	}
	return d.healthy(ctx, version)
}

// because adds to an error that ctx was done, if it was.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// backLimit bounds the way back, which is gone also when the task was cancelled.
const backLimit = 2 * time.Minute

// back brings back the release that was there before a switch that failed.
func (d *deployment) back(ctx context.Context, s pending) error {
	defer func() { d.out.Step = s.Step }()
	reason := errors.New(s.Failed)
	d.out.From = s.From
	if s.From == s.To {
		return fmt.Errorf("%s stays current, as there is no other release to go back to, but %w", s.To, reason)
	}
	if s.From != "" {
		if _, found, err := d.place.release(s.From); err != nil || !found {
			return errors.Join(fmt.Errorf("%s stays current, as the release before, %s, is gone, but %w", s.To, s.From, reason), err)
		}
	}
	ctx, cancel := backContext(ctx)
	defer cancel()
	d.step("switch back", 95, fmt.Sprintf("%s failed; switching back to %s", s.To, orElse(s.From, "none")))
	if err := d.place.link(s.From); err != nil {
		return fmt.Errorf("it cannot be switched back to %s (%w), after %w", s.From, err, reason)
	}
	d.out.Current, d.out.SwitchedBack = s.From, true
	err := d.resume(ctx, s.From)
	if errors.Is(context.Cause(ctx), handlers.ErrStopping) {
		return err
	}
	if endErr := errors.Join(d.place.remove(switchFile), d.Snapshots.Delete(s.Task)); endErr != nil {
		err = errors.Join(err, endErr)
	}
	switch {
	case err != nil:
		return fmt.Errorf("switched back to %s, which does not work either (%w), because %w", orElse(s.From, "none"), err, reason)
	case s.From == "":
		return fmt.Errorf("switched back to no release, as there was none before, because %w", reason)
	}
	return fmt.Errorf("switched back to %s, which works, because %w", s.From, reason)
}

// resume has an earlier release serve again; without one, nothing.
func (d *deployment) resume(ctx context.Context, version string) error {
	if version != "" {
		return d.activate(ctx, version)
	}
	if d.Unit == "" {
		return nil
	}
	d.step("stop", 95, "stopping "+d.Unit)
	if err := d.Units.Stop(ctx, d.Unit); err != nil {
		return because(ctx, err)
	}
	return nil
}

// backContext is done when the agent stops, or after a time, but not with the task.
func backContext(ctx context.Context) (context.Context, context.CancelFunc) {
	limited, stop := context.WithTimeout(context.WithoutCancel(ctx), backLimit)
	back, cancel := context.WithCancelCause(limited)
	watching := context.AfterFunc(ctx, func() {
		if cause := context.Cause(ctx); errors.Is(cause, handlers.ErrStopping) {
			cancel(cause)
		}
	})
	return back, func() {
		watching()
		cancel(nil)
		stop()
	}
}

// prune removes releases beyond those that are kept. That it cannot does not undo
// what was done.
func (d *deployment) prune(good string) {
	gone, err := d.place.surplus(d.Keep, d.Version, good)
	for _, version := range gone {
		d.step("prune", 98, "removing the old release "+version)
		err = errors.Join(err, d.place.drop(version))
	}
	if err != nil {
		fmt.Fprintf(d.call.Output, "old releases are left: %v\n", err)
	}
}

// undo brings back the release that was there before a task.
func (d *deployment) undo(ctx context.Context) error {
	current, _, open, err := d.state()
	if err != nil {
		return err
	}
	var w was
	err = d.Snapshots.Load(d.call.Undoes, &w)
	if errors.Is(err, snapshot.ErrNotFound) {
		d.out.To, d.out.Note = current, "the task has changed nothing here, or was undone already"
		return nil
	}
	if err != nil {
		return err
	}
	d.out.To = w.From
	switch {
	case current == w.From && open == nil:
		d.out.Note = orElse(w.From, "no release") + " is current already"
		return d.Snapshots.Delete(d.call.Undoes)
	case current != w.From && current != w.To:
		return fmt.Errorf("%s is current, which another task has deployed since; undo that task first, or deploy %s by a task", orElse(current, "no release"), orElse(w.From, "another one"))
	}
	if w.From != "" {
		if _, found, err := d.place.release(w.From); err != nil {
			return err
		} else if !found {
			return fmt.Errorf("the release before, %s, is gone: it was removed since; deploy it by a task (%s stays current)", w.From, current)
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// It is not switched forth again, whatever becomes of it.
	d.step("switch", 20, fmt.Sprintf("switching from %s back to %s", orElse(current, "none"), orElse(w.From, "none")))
	if err := d.place.put(switchFile, pending{Task: d.call.TaskID, Attempt: d.call.Attempt, From: w.From, To: w.From}); err != nil {
		return err
	}
	if err := d.place.link(w.From); err != nil {
		return err
	}
	d.out.Current = w.From
	if err := d.resume(ctx, w.From); err != nil {
		return fmt.Errorf("%s is current again, but does not work: %w", orElse(w.From, "no release"), err)
	}
	d.out.Changed = true
	return errors.Join(d.place.remove(switchFile), d.Snapshots.Delete(d.call.Undoes))
}
