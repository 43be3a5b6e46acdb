// Package snapshot keeps on the server what was there before a task changed it, so
// that the task can be undone: a record for each task, written before the first
// change, which survives a crash of agent and server.
package snapshot

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/MatthiasWiesner/tasker/internal/atomicfile"
)

// ErrNone: the task has changed nothing here, its record was forgotten, or it is
// too long ago.
var ErrNone = errors.New("nothing is known of what was before the task")

// Kept is how many records a handler keeps; the oldest ones go first.
const Kept = 200

// Records are those of one handler. Their methods may be called concurrently for
// different tasks.
type Records struct{ dir string }

// New returns the records in a directory, which is made when it is needed.
func New(dir string) *Records { return &Records{dir: dir} }

const record = "before.json"

// Dir makes the directory of a task and returns it, for copies that its record
// names. Only root (the agent's user) reads it.
func (r *Records) Dir(task string) (string, error) {
	dir := filepath.Join(r.dir, task)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("keep what was before: %w", err)
	}
	return dir, nil
}

// Keep writes the record of a task, and returns when it is on the disk. A record
// that is there already stays: it is from before the first change.
func (r *Records) Keep(task string, state any) error {
	dir, err := r.Dir(task)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(dir, record)); err == nil {
		return nil
	}
	data, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("keep what was before: %w", err)
	}
	err = atomicfile.Replace(filepath.Join(dir, record), data)
	if err == nil {
		err = atomicfile.SyncDir(r.dir)
	}
	if err != nil {
		return fmt.Errorf("keep what was before: %w", err)
	}
	r.prune()
	return nil
}

// Recall reads the record of a task into state, or returns ErrNone.
func (r *Records) Recall(task string, state any) error {
	data, err := os.ReadFile(filepath.Join(r.dir, task, record))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ErrNone
	case err != nil:
		return fmt.Errorf("recall what was before: %w", err)
	}
	if err := json.Unmarshal(data, state); err != nil {
		return fmt.Errorf("recall what was before: %s: %w", filepath.Join(r.dir, task, record), err)
	}
	return nil
}

// Forget removes the record of a task that was undone, with its copies.
func (r *Records) Forget(task string) error {
	if err := os.RemoveAll(filepath.Join(r.dir, task)); err != nil {
		return fmt.Errorf("forget what was before: %w", err)
	}
	return nil
}

// prune removes the oldest records. That it cannot keeps no task from its work.
func (r *Records) prune() {
	entries, err := os.ReadDir(r.dir)
	if err != nil || len(entries) <= Kept {
		return
	}
	age := func(e fs.DirEntry) int64 {
		fi, err := e.Info()
		if err != nil {
			return 0
		}
		return fi.ModTime().UnixNano()
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(age(a), age(b)) })
	for _, e := range entries[:len(entries)-Kept] {
		_ = r.Forget(e.Name())
	}
}
