package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/process"
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
	"github.com/MatthiasWiesner/tasker/internal/atomicfile"
)

// assignment is one call of the handler.
type assignment struct {
	*writer
	spec

	call   handlers.Call
	target *target
	// current is the file before the call.
	current *version
	// note describes the processes that the validate command left running.
	note string
}

// undoRecord is the snapshot of a task. The content of the file before the task is in a
// file beside it.
type undoRecord struct {
	Before *attributes `json:"before"`
	// After describes the file after the task.
	After *attributes `json:"after"`
}

// dryRun returns the outcome that perform would have.
func (a *assignment) dryRun() (Outcome, error) {
	desired, err := a.prepare()
	if err != nil {
		return a.unchanged(), err
	}
	o := a.outcome(a.current, desired)
	o.DryRun = true
	return o, nil
}

// prepare returns the desired version, or an error if the server would not let the agent
// change the file.
func (a *assignment) prepare() (*version, error) {
	desired, err := a.desired(a.target, a.current)
	if err == nil && !a.current.equals(desired.attrs()) {
		err = a.target.checkWritable()
	}
	return desired, err
}

func (a *assignment) perform(ctx context.Context) (Outcome, error) {
	desired, err := a.prepare()
	if err != nil {
		return a.unchanged(), err
	}
	if a.current.equals(desired.attrs()) {
		return a.confirm()
	}
	err = a.change(ctx, desired)
	if err == nil || errors.Is(err, errNotSynced) {
		return a.outcome(a.current, desired), err
	}
	return a.unchanged(), fmt.Errorf("the task did not change %s: %w", a.Path, err)
}

// confirm ends a task whose file is already as desired. If an earlier attempt of the same
// task has written the file, but was killed before it could report so, confirm reports it.
func (a *assignment) confirm() (Outcome, error) {
	var r undoRecord
	switch err := a.snapshots.Load(a.call.TaskID, &r); {
	case errors.Is(err, snapshot.ErrNotFound):
		return a.unchanged(), nil
	case err != nil:
		return a.unchanged(), err
	case !a.current.equals(r.After):
		return a.unchanged(), a.snapshots.Delete(a.call.TaskID)
	}
	before, err := a.loadContent(a.call.TaskID, r.Before)
	if err != nil {
		return a.unchanged(), err
	}
	return a.outcome(before, a.current), a.target.sync()
}

// change writes or removes the file. Unless the error is errNotSynced, an error means
// that the file has not changed.
func (a *assignment) change(ctx context.Context, desired *version) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if desired != nil {
		defer func() { _ = a.target.remove(a.target.tempName()) }()
		if err := a.stage(ctx, desired); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	again, err := a.target.read(a.target.name)
	if err != nil {
		return err
	}
	if !again.equals(a.current.attrs()) {
		return errors.New("it was changed by another program at the same time: run the task again, if it is still right")
	}
	// The snapshot of an earlier attempt, which has changed nothing, may be out of date.
	if err := a.snapshots.Delete(a.call.TaskID); err != nil {
		return err
	}
	if err := a.commit(desired); errors.Is(err, errNotSynced) {
		return err
	} else if err != nil {
		return errors.Join(err, a.snapshots.Delete(a.call.TaskID))
	}
	return nil
}

// stage writes the new file under its temporary name, and validates it.
func (a *assignment) stage(ctx context.Context, desired *version) error {
	a.call.Progress(0, "writing the new file")
	if err := a.target.stage(a.target.tempName(), desired); err != nil {
		return fmt.Errorf("write the new file beside it: %w%s", err, advice(err))
	}
	if err := a.runValidation(ctx); err != nil {
		return err
	}
	return a.target.verifyStaged(desired)
}

// commit saves the snapshot and the backup, and then replaces or removes the file.
func (a *assignment) commit(desired *version) error {
	if err := a.saveSnapshot(desired); err != nil {
		return fmt.Errorf("%w%s", err, advice(err))
	}
	if a.Backup && a.current != nil {
		if err := a.target.backUp(a.current); err != nil {
			return fmt.Errorf("back it up: %w%s", err, advice(err))
		}
	}
	return a.target.commit(desired)
}

// advice returns what to do about a full disk.
func advice(err error) string {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return ": free some space, and run the task again"
	}
	return ""
}

// undo restores the file as it was before another task.
func (a *assignment) undo() (Outcome, error) {
	var r undoRecord
	unchanged := a.unchanged()
	switch err := a.snapshots.Load(a.call.Undoes, &r); {
	case errors.Is(err, snapshot.ErrNotFound):
		unchanged.Note = "nothing to undo: the task has changed nothing here, was undone, or is too long ago"
		return unchanged, nil
	case err != nil:
		return unchanged, err
	case a.current.equals(r.Before):
		unchanged.Note = "it is as it was before the task"
		return unchanged, errors.Join(a.target.sync(), a.snapshots.Delete(a.call.Undoes))
	case !a.current.hasContentOf(r.After):
		return unchanged, fmt.Errorf("%s is not restored: it was changed after the task (it has %s, not %s); %s",
			a.Path, a.current.attrs(), r.After, a.describeBefore(r))
	}
	before, err := a.loadContent(a.call.Undoes, r.Before)
	if err == nil {
		err = a.target.checkWritable()
	}
	if err != nil {
		return unchanged, err
	}
	if err := a.target.replace(before); errors.Is(err, errNotSynced) {
		return a.outcome(a.current, before), err
	} else if err != nil {
		return unchanged, fmt.Errorf("%s is as the task left it: %w%s", a.Path, err, advice(err))
	}
	return a.outcome(a.current, before), a.snapshots.Delete(a.call.Undoes)
}

// describeBefore tells a person where to find the content of the file before the task.
func (a *assignment) describeBefore(r undoRecord) string {
	if r.Before == nil {
		return "before the task the file did not exist"
	}
	if dir, err := a.snapshots.Dir(a.call.Undoes); err == nil {
		return "the content before the task is in " + filepath.Join(dir, contentFile)
	}
	return "the content before the task had " + r.Before.String()
}

// outcome returns the outcome of a change.
func (a *assignment) outcome(from, to *version) Outcome {
	o := Outcome{Changed: !to.equals(from.attrs()), Path: a.Path, From: from.state(), To: to.state()}
	if !o.Changed {
		return o
	}
	diff, note := a.diff(from, to)
	o.Diff, o.Note = diff, process.JoinNotes(note, from.linkNote(), a.note)
	if a.Backup && from != nil && a.call.Action != tasker.Undo {
		o.Backup = a.Path + backupSuffix
	}
	return o
}

func (a *assignment) unchanged() Outcome { return a.outcome(a.current, a.current) }

// contentFile contains the content of the file before a task, beside the snapshot.
const contentFile = "content"

// saveSnapshot saves the undo record and the content. They are on the disk when it
// returns.
func (a *assignment) saveSnapshot(desired *version) error {
	dir, err := a.snapshots.Dir(a.call.TaskID)
	if err != nil {
		return err
	}
	if a.current != nil {
		if err := atomicfile.Replace(filepath.Join(dir, contentFile), a.current.content); err != nil {
			return fmt.Errorf("save the file before the task: %w", err)
		}
	}
	return a.snapshots.Save(a.call.TaskID, undoRecord{Before: a.current.attrs(), After: desired.attrs()})
}

// loadContent returns the file that existed before a task; nil if it did not exist.
func (a *assignment) loadContent(task string, before *attributes) (*version, error) {
	if before == nil {
		return nil, nil
	}
	dir, err := a.snapshots.Dir(task)
	if err != nil {
		return nil, err
	}
	content, err := os.ReadFile(filepath.Join(dir, contentFile))
	if err != nil {
		return nil, fmt.Errorf("load the file before the task: %w", err)
	}
	v := newVersion(content)
	if !v.hasContentOf(before) {
		return nil, fmt.Errorf("load the file before the task: %s is damaged", filepath.Join(dir, contentFile))
	}
	v.attributes = *before
	return v, nil
}
