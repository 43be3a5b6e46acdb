package snapshot_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
)

type state struct {
	Version string `json:"version"`
}

func TestSaveKeepsTheFirstSnapshot(t *testing.T) {
	t.Parallel()
	store := snapshot.New(filepath.Join(t.TempDir(), "snapshots"))
	var got state
	if err := store.Load("t1", &got); !errors.Is(err, snapshot.ErrNotFound) {
		t.Fatalf("Load of a task without a snapshot = %v", err)
	}
	for _, v := range []string{"1", "2"} {
		if err := store.Save("t1", state{v}); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Load("t1", &got); err != nil || got.Version != "1" {
		t.Errorf("Load = %q, %v; want the state before the first change, 1", got.Version, err)
	}
	if err := store.Delete("t1"); err != nil {
		t.Fatal(err)
	}
	if err := store.Load("t1", &got); !errors.Is(err, snapshot.ErrNotFound) {
		t.Errorf("Load after Delete = %v, want ErrNotFound", err)
	}
}

func TestDeleteRemovesCopies(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	store := snapshot.New(root)
	dir, err := store.Dir("t1")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "copy"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := store.Save("t1", state{"1"}); err != nil {
		t.Fatal(err)
	}
	if err := store.Delete("t1"); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(root); len(left) != 0 {
		t.Errorf("%v is left", left)
	}
}

func TestSavePrunesTheOldestSnapshots(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	store := snapshot.New(root)
	for i := range snapshot.MaxSnapshots + 10 {
		if err := store.Save(fmt.Sprintf("t%03d", i), state{}); err != nil {
			t.Fatal(err)
		}
	}
	left, err := os.ReadDir(root)
	if err != nil || len(left) != snapshot.MaxSnapshots {
		t.Fatalf("%d snapshots are left, %v; want %d", len(left), err, snapshot.MaxSnapshots)
	}
	if err := store.Load(fmt.Sprintf("t%03d", snapshot.MaxSnapshots+9), &state{}); err != nil {
		t.Errorf("the newest snapshot is gone: %v", err)
	}
}
