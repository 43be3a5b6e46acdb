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

func TestTheFirstRecordStays(t *testing.T) {
	t.Parallel()
	r := snapshot.New(filepath.Join(t.TempDir(), "records"))
	var got state
	if err := r.Recall("t1", &got); !errors.Is(err, snapshot.ErrNone) {
		t.Fatalf("recalled %v of a task that kept nothing", err)
	}
	for _, v := range []string{"1", "2"} {
		if err := r.Keep("t1", state{v}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Recall("t1", &got); err != nil || got.Version != "1" {
		t.Errorf("recalled %q, %v; want what was before the first change, 1", got.Version, err)
	}
	if err := r.Forget("t1"); err != nil {
		t.Fatal(err)
	}
	if err := r.Recall("t1", &got); !errors.Is(err, snapshot.ErrNone) {
		t.Errorf("recalled %v after it was forgotten", err)
	}
}

func TestCopiesGoWithTheirRecord(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	r := snapshot.New(root)
	dir, err := r.Dir("t1")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "copy"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Keep("t1", state{"1"}); err != nil {
		t.Fatal(err)
	}
	if err := r.Forget("t1"); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(root); len(left) != 0 {
		t.Errorf("%v is left", left)
	}
}

func TestOnlyTheNewestAreKept(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	r := snapshot.New(root)
	for i := range snapshot.Kept + 10 {
		if err := r.Keep(fmt.Sprintf("t%03d", i), state{}); err != nil {
			t.Fatal(err)
		}
	}
	left, err := os.ReadDir(root)
	if err != nil || len(left) != snapshot.Kept {
		t.Fatalf("%d records are left, %v; want %d", len(left), err, snapshot.Kept)
	}
	if err := r.Recall(fmt.Sprintf("t%03d", snapshot.Kept+9), &state{}); err != nil {
		t.Errorf("the newest one is gone: %v", err)
	}
}
