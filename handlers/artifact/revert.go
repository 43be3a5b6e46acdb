package artifact

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
)

// switchBackTimeout bounds switching back, which goes on even if the task is cancelled.
const switchBackTimeout = 2 * time.Minute

// switchBack returns to the release that was current before a failed switch. It always
// returns an error, which contains the failure of the new release.
func (d *deployment) switchBack(ctx context.Context, s pendingSwitch) error {
	defer func() { d.step = s.Step }()
	failure := errors.New(s.Failed)
	d.out.From = s.From
	if s.From == s.To {
		return fmt.Errorf("%s stays current, as there is no other release to go back to, but %w", s.To, failure)
	}
	if s.From != "" {
		if _, found, err := d.app.findRelease(s.From); err != nil || !found {
			return errors.Join(fmt.Errorf("%s stays current, as the release before, %s, is gone, but %w", s.To, s.From, failure), err)
		}
	}
	ctx, cancel := untilStopping(ctx, switchBackTimeout)
	defer cancel()
	d.start("switch back", 95, fmt.Sprintf("%s failed; switching back to %s", s.To, cmp.Or(s.From, "none")))
	if err := d.app.switchLink(s.From); err != nil {
		return fmt.Errorf("switching back to %s failed (%w), after %w", s.From, err, failure)
	}
	d.out.Current, d.out.SwitchedBack = s.From, true
	err := d.reactivate(ctx, s.From)
	if errors.Is(context.Cause(ctx), handlers.ErrStopping) {
		return err
	}
	err = errors.Join(err, d.app.removeFile(switchFile), d.Snapshots.Delete(s.Task))
	switch {
	case err != nil:
		return fmt.Errorf("switched back to %s, which does not work either (%w), because %w", cmp.Or(s.From, "none"), err, failure)
	case s.From == "":
		return fmt.Errorf("switched back to no release, as there was none before, because %w", failure)
	}
	return fmt.Errorf("switched back to %s, which works, because %w", s.From, failure)
}

// reactivate activates an earlier release. Without one it stops the unit.
func (d *deployment) reactivate(ctx context.Context, version string) error {
	if version != "" {
		return d.activate(ctx, version)
	}
	if d.Unit == "" {
		return nil
	}
	d.start("stop", 95, "stopping "+d.Unit)
	if err := d.Units.Stop(ctx, d.Unit); err != nil {
		return withCause(ctx, err)
	}
	return nil
}

// untilStopping returns a context that is done when the agent stops or after a timeout,
// but not when the task is cancelled.
func untilStopping(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	limited, stop := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	until, cancel := context.WithCancelCause(limited)
	unwatch := context.AfterFunc(ctx, func() {
		if cause := context.Cause(ctx); errors.Is(cause, handlers.ErrStopping) {
			cancel(cause)
		}
	})
	return until, func() {
		unwatch()
		cancel(nil)
		stop()
	}
}

// undo returns to the release that was current before a task.
func (d *deployment) undo(ctx context.Context) error {
	state, err := d.readState()
	if err != nil {
		return err
	}
	current := state.current
	var r undoRecord
	err = d.Snapshots.Load(d.call.Undoes, &r)
	if errors.Is(err, snapshot.ErrNotFound) {
		d.out.To, d.out.Note = current, "the task has changed nothing here, or was undone already"
		return nil
	}
	if err != nil {
		return err
	}
	d.out.To = r.From
	switch {
	case current == r.From && state.pending == nil:
		d.out.Note = cmp.Or(r.From, "no release") + " is already current"
		return d.Snapshots.Delete(d.call.Undoes)
	case current != r.From && current != r.To:
		return fmt.Errorf("%s is current, which another task has deployed since; undo that task first, or deploy %s by a task", cmp.Or(current, "no release"), cmp.Or(r.From, "another one"))
	}
	if r.From != "" {
		if _, found, err := d.app.findRelease(r.From); err != nil {
			return err
		} else if !found {
			return fmt.Errorf("the release before, %s, is gone: it was removed since; deploy it by a task (%s stays current)", r.From, current)
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// From and To are the same, so that no later call switches to the undone release.
	d.start("switch", 20, fmt.Sprintf("switching from %s back to %s", cmp.Or(current, "none"), cmp.Or(r.From, "none")))
	if err := d.app.writeJSON(switchFile, pendingSwitch{Task: d.call.TaskID, Attempt: d.call.Attempt, From: r.From, To: r.From}); err != nil {
		return err
	}
	if err := d.app.switchLink(r.From); err != nil {
		return err
	}
	d.out.Current = r.From
	if err := d.reactivate(ctx, r.From); err != nil {
		return fmt.Errorf("%s is current again, but does not work: %w", cmp.Or(r.From, "no release"), err)
	}
	d.out.Changed = true
	return errors.Join(d.app.removeFile(switchFile), d.Snapshots.Delete(d.call.Undoes))
}
