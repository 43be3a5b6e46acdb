// Package snapshot keeps on the server what a task is about to change, so that the task
// can be undone. Each handler has a Store with one snapshot per task. A snapshot is
// written before the first change and survives a crash of the agent and of the server.
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

// ErrNotFound is returned for a task without a snapshot: the task has changed nothing on
// this server, or its snapshot was deleted or pruned.
var ErrNotFound = errors.New("there is no snapshot of the state before the task")

// MaxSnapshots is the number of snapshots that a Store keeps; it prunes the oldest ones.
const MaxSnapshots = 200

// Store is a directory with the snapshots of one handler. Its methods may be called
// concurrently for different tasks.
type Store struct{ dir string }

// New returns the store in a directory, which the first Save creates.
func New(dir string) *Store { return &Store{dir: dir} }

const fileName = "before.json"

// Dir creates the directory of a task's snapshot and returns it. A handler may keep
// copies of files there. Only the agent's user can read it.
func (s *Store) Dir(task string) (string, error) {
	dir := filepath.Join(s.dir, task)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("save a snapshot: %w", err)
	}
	return dir, nil
}

// Save writes the snapshot of a task and returns when it is on the disk. An existing
// snapshot stays, because it is from before the task's first change.
func (s *Store) Save(task string, state any) error {
	dir, err := s.Dir(task)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, fileName)
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	data, err := json.Marshal(state)
	if err == nil {
		err = atomicfile.Replace(path, data)
	}
	if err == nil {
		err = atomicfile.SyncDir(s.dir)
	}
	if err != nil {
		return fmt.Errorf("save a snapshot: %w", err)
	}
	s.prune()
	return nil
}

// Load reads the snapshot of a task into state, or returns ErrNotFound.
func (s *Store) Load(task string, state any) error {
	path := filepath.Join(s.dir, task, fileName)
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ErrNotFound
	case err != nil:
		return fmt.Errorf("load a snapshot: %w", err)
	}
	if err := json.Unmarshal(data, state); err != nil {
		return fmt.Errorf("load a snapshot: %s: %w", path, err)
	}
	return nil
}

// Delete removes the snapshot of a task and the copies in its directory.
func (s *Store) Delete(task string) error {
	if err := os.RemoveAll(filepath.Join(s.dir, task)); err != nil {
		return fmt.Errorf("delete a snapshot: %w", err)
	}
	return nil
}

// prune removes the oldest snapshots. An error is ignored, because it must not stop the
// task whose snapshot has just been saved.
func (s *Store) prune() {
	entries, err := os.ReadDir(s.dir)
	if err != nil || len(entries) <= MaxSnapshots {
		return
	}
	modified := func(e fs.DirEntry) int64 {
		fi, err := e.Info()
		if err != nil {
			return 0
		}
		return fi.ModTime().UnixNano()
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(modified(a), modified(b)) })
	for _, e := range entries[:len(entries)-MaxSnapshots] {
		_ = s.Delete(e.Name())
	}
}
