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
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
)

// job is one call: what is wanted where, and what is there.
type job struct {
	*writer
	order

	call handlers.Call
	at   *place
	now  *version
}

// record is what is kept of a task. The content of the file before is beside it.
type record struct {
	Before *attributes `json:"before"`
	// After is the file that the task left.
	After *attributes `json:"after"`
}

// plan says what perform would do.
func (j *job) plan() (Outcome, error) {
	want, err := j.wanted(j.at, j.now)
	if err != nil {
		return j.unchanged(), err
	}
	o := j.outcome(j.now, want)
	o.Plan = true
	return o, nil
}

func (j *job) perform(ctx context.Context) (Outcome, error) {
	want, err := j.wanted(j.at, j.now)
	if err != nil {
		return j.unchanged(), err
	}
	if j.now.is(want.attrs()) {
		return j.resume()
	}
	if err := j.change(ctx, want); errors.Is(err, errNotLasting) {
		return j.outcome(j.now, want), err
	} else if err != nil {
		return j.unchanged(), fmt.Errorf("the task has left %s alone: %w", j.Path, err)
	}
	return j.outcome(j.now, want), nil
}

// resume is called where the file is as wanted. If it was an earlier attempt at the
// task that has put it in place, and could not say so, that is said now.
func (j *job) resume() (Outcome, error) {
	var r record
	switch err := j.records.Load(j.call.TaskID, &r); {
	case errors.Is(err, snapshot.ErrNotFound):
		return j.unchanged(), nil
	case err != nil:
		return j.unchanged(), err
	case !j.now.is(r.After):
		return j.unchanged(), j.records.Delete(j.call.TaskID)
	}
	old, err := j.recallContent(j.call.TaskID, r.Before)
	if err != nil {
		return j.unchanged(), err
	}
	return j.outcome(old, j.now), j.at.lasting()
}

// change makes the file what is wanted. Unless the error is errNotLasting, it is as
// it was then.
func (j *job) change(ctx context.Context, want *version) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if want != nil {
		j.call.Progress(0, "writing the new file")
		if err := j.at.stage(j.at.temp(), want); err != nil {
			return fmt.Errorf("write the new one beside it: %w%s", err, advice(err))
		}
		defer func() { _ = j.at.discard(j.at.temp()) }()
		if err := j.accept(ctx); err != nil {
			return err
		}
		if err := j.at.verify(want); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	again, err := j.at.read(j.at.name)
	if err != nil {
		return err
	}
	if !again.is(j.now.attrs()) {
		return errors.New("somebody else has just changed it: run the task again, if it still is right")
	}
	// One of an earlier attempt, which got no further, may be out of date.
	if err := j.records.Delete(j.call.TaskID); err != nil {
		return err
	}
	if err := j.keep(want); err != nil {
		return errors.Join(fmt.Errorf("%w%s", err, advice(err)), j.records.Delete(j.call.TaskID))
	}
	if j.Backup && j.now != nil {
		if err := j.at.backUp(j.now); err != nil {
			return errors.Join(fmt.Errorf("back it up: %w%s", err, advice(err)), j.records.Delete(j.call.TaskID))
		}
	}
	if err := j.at.swap(want); errors.Is(err, errNotLasting) {
		return err
	} else if err != nil {
		return errors.Join(err, j.records.Delete(j.call.TaskID))
	}
	return nil
}

// advice says what to do about a full disk.
func advice(err error) string {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return ": make room there, and run the task again"
	}
	return ""
}

// undo brings back what was there before another task.
func (j *job) undo() (Outcome, error) {
	var r record
	nothing := j.unchanged()
	switch err := j.records.Load(j.call.Undoes, &r); {
	case errors.Is(err, snapshot.ErrNotFound):
		nothing.Note = "nothing to undo: the task has changed nothing here, was undone, or is too long ago"
		return nothing, nil
	case err != nil:
		return nothing, err
	case j.now.is(r.Before):
		nothing.Note = "it is as it was before the task"
		return nothing, errors.Join(j.at.lasting(), j.records.Delete(j.call.Undoes))
	case !j.now.contains(r.After):
		return nothing, fmt.Errorf("%s is left alone: since the task somebody else has changed it (%s, not %s); %s",
			j.Path, j.now.attrs(), r.After, j.whereabouts(r))
	}
	old, err := j.recallContent(j.call.Undoes, r.Before)
	if err != nil {
		return nothing, err
	}
	if err := j.at.put(old); errors.Is(err, errNotLasting) {
		return j.outcome(j.now, old), err
	} else if err != nil {
		return nothing, fmt.Errorf("%s is as the task left it: %w%s", j.Path, err, advice(err))
	}
	return j.outcome(j.now, old), j.records.Delete(j.call.Undoes)
}

// whereabouts says where a person finds what was there before.
func (j *job) whereabouts(r record) string {
	if r.Before == nil {
		return "before the task there was no such file"
	}
	if dir, err := j.records.Dir(j.call.Undoes); err == nil {
		return "what was in it before the task is in " + filepath.Join(dir, contentFile)
	}
	return "what was in it before the task had " + r.Before.String()
}

// outcome is that of a change.
func (j *job) outcome(from, to *version) Outcome {
	o := Outcome{Changed: !to.is(from.attrs()), Path: j.Path, From: from.state(), To: to.state()}
	if !o.Changed {
		return o
	}
	o.Diff, o.Note = j.diff(from, to)
	if j.Backup && from != nil && j.call.Action != tasker.Undo {
		o.Backup = j.Path + backupSuffix
	}
	return o
}

func (j *job) unchanged() Outcome { return j.outcome(j.now, j.now) }

// contentFile is the file before a task, beside the task's record.
const contentFile = "content"

// keep writes the record, and returns when it is on the disk.
func (j *job) keep(want *version) error {
	dir, err := j.records.Dir(j.call.TaskID)
	if err != nil {
		return err
	}
	if j.now != nil {
		if err := writeSynced(filepath.Join(dir, contentFile), j.now.content); err != nil {
			return fmt.Errorf("keep what was before: %w", err)
		}
	}
	// It syncs the directory too.
	return j.records.Save(j.call.TaskID, record{Before: j.now.attrs(), After: want.attrs()})
}

func writeSynced(name string, content []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// recallContent is the file that was there before a task.
func (j *job) recallContent(task string, a *attributes) (*version, error) {
	if a == nil {
		return nil, nil
	}
	dir, err := j.records.Dir(task)
	if err != nil {
		return nil, err
	}
	content, err := os.ReadFile(filepath.Join(dir, contentFile))
	if err != nil {
		return nil, fmt.Errorf("recall what was before: %w", err)
	}
	v := newVersion(content)
	if !v.contains(a) {
		return nil, fmt.Errorf("recall what was before: %s is damaged", filepath.Join(dir, contentFile))
	}
	v.attributes = *a
	return v, nil
}
