package file_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
)

// An undo does not overwrite later changes.
func TestUndoAfterOtherChanges(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		before, more string
		change       func(path string) error
		want         string
		files        map[string]string
	}{
		"another content":   {"old", `"content":"new"`, func(p string) error { return os.WriteFile(p, []byte("theirs"), 0o600) }, "SHA-256 " + sum("theirs") + ", not SHA-256 " + sum("new"), map[string]string{"a": "rw-r--r-- theirs"}},
		"removed":           {"old", `"content":"new"`, os.Remove, "no file, not SHA-256", nil},
		"created again":     {"old", `"state":"absent"`, func(p string) error { return os.WriteFile(p, []byte("theirs"), 0o644) }, "not no file", map[string]string{"a": "rw-r--r-- theirs"}},
		"new file":          {"", `"content":"new"`, func(p string) error { return os.WriteFile(p, []byte("theirs"), 0o600) }, "before the task the file did not exist", map[string]string{"a": "rw-r--r-- theirs"}},
		"another mode":      {"old", `"content":"new"`, func(p string) error { return os.Chmod(p, 0o600) }, "", map[string]string{"a": "rw-r--r-- old"}},
		"as before":         {"old", `"content":"new"`, func(p string) error { return os.WriteFile(p, []byte("old"), 0o600) }, "", map[string]string{"a": "rw-r--r-- old"}},
		"removed as before": {"", `"content":"new"`, os.Remove, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			if tt.before != "" {
				f.writeFile("a", tt.before, 0o644)
			}
			payload := f.payload("a", tt.more)
			if got := f.perform(payload); got.err != nil || !got.Changed {
				t.Fatalf("perform: %+v", got)
			}
			if err := tt.change(filepath.Join(f.dir, "a")); err != nil {
				t.Fatal(err)
			}
			got := f.undo(payload)
			f.wantFiles(tt.files)
			if tt.want == "" {
				if got.err != nil {
					t.Errorf("undo: %+v", got)
				}
				return
			}
			if got.err == nil || got.rejected() || got.Changed || !strings.Contains(got.err.Error(), "it was changed after the task") || !strings.Contains(got.err.Error(), tt.want) {
				t.Errorf("undo: %+v", got)
			}
			if _, where, ok := strings.Cut(errorText(got.err), "before the task is in "); ok {
				if content, err := os.ReadFile(where); err != nil || string(content) != tt.before {
					t.Errorf("%s holds %q, %v", where, content, err)
				}
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// After a crash of the agent, the handler is called again with the same task.
func TestPerformAfterCrash(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.writeFile("a", "old", 0o644)
	payload := f.payload("a", `"content":"new"`)
	// Crash before the rename: the new file is incomplete, and there may be a snapshot.
	f.writeFile(".tasker-a", "ne", 0o600)
	type attributes struct {
		SHA256 string `json:"sha256"`
	}
	if err := snapshot.New(filepath.Join(f.root, "before")).Save("task-1", map[string]attributes{"before": {sum("older")}, "after": {sum("new")}}); err != nil {
		t.Fatal(err)
	}
	if got := f.perform(payload); got.err != nil || !got.Changed || got.From.SHA256 != sum("old") {
		t.Errorf("got %+v", got)
	}
	f.wantFiles(map[string]string{"a": "rw-r--r-- new"})
	// Crash after the rename: the task reports the change, and can be undone.
	if got := f.perform(payload); got.err != nil || !got.Changed || got.From.SHA256 != sum("old") || !strings.Contains(got.Diff, "-old") {
		t.Errorf("again: %+v", got)
	}
	// Crash after an undo: there is a snapshot, and nothing to do.
	f.writeFile("a", "old", 0o644)
	if got := f.undo(payload); got.err != nil || got.Changed || got.Note != "it is as it was before the task" {
		t.Errorf("undo: %+v", got)
	}
	f.wantFiles(map[string]string{"a": "rw-r--r-- old"})
	// If another program has written the same content, this task has changed nothing.
	f.writeFile("a", "new", 0o644)
	if err := snapshot.New(filepath.Join(f.root, "before")).Save("task-1", map[string]*attributes{"before": nil, "after": {sum("newer")}}); err != nil {
		t.Fatal(err)
	}
	if got := f.perform(payload); got.err != nil || got.Changed {
		t.Errorf("got %+v", got)
	}
	if got := f.undo(payload); got.err != nil || got.Changed {
		t.Errorf("undo: %+v", got)
	}
	f.wantFiles(map[string]string{"a": "rw-r--r-- new"})
}

// A damaged snapshot is not restored.
func TestUndoWithDamagedSnapshot(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.writeFile("a", "old", 0o644)
	payload := f.payload("a", `"content":"new"`)
	if got := f.perform(payload); got.err != nil {
		t.Fatal(got.err)
	}
	saved := filepath.Join(f.root, "before/task-1/content")
	if err := os.WriteFile(saved, []byte("ol"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := f.undo(payload); got.err == nil || !strings.Contains(got.err.Error(), saved+" is damaged") {
		t.Errorf("got %+v", got)
	}
	f.wantFiles(map[string]string{"a": "rw-r--r-- new"})
}

// Tasks that change the same file run one after the other, so that undoing them in
// reverse order restores the first state.
func TestConcurrentTasks(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mkdir("app/dir")
	if err := os.Symlink("dir", filepath.Join(f.dir, "link")); err != nil {
		t.Fatal(err)
	}
	tasks := []string{"dir/a", "link/a", "dir/a", "link/a", "dir/a", "link/a"}
	before := make(map[string]string)
	var mu sync.Mutex
	var all sync.WaitGroup
	for i, name := range tasks {
		all.Go(func() {
			task := string(rune('a' + i))
			got := f.call(t.Context(), "", task, f.payload(name, `"content":"`+task+`"`))
			if got.err != nil || !got.Changed {
				t.Errorf("%s: %+v", task, got)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			before[task] = ""
			if got.From != nil {
				before[task] = got.From.SHA256
			}
		})
	}
	all.Wait()
	for range tasks {
		content, err := os.ReadFile(filepath.Join(f.dir, "dir/a"))
		if err != nil {
			t.Fatal(err)
		}
		task := string(content)
		got := f.call(t.Context(), "undo", task, f.payload("link/a", `"content":"`+task+`"`))
		if got.err != nil || !got.Changed || got.To != nil && got.To.SHA256 != before[task] {
			t.Fatalf("undo of %s: %+v", task, got)
		}
	}
	if left, err := os.ReadDir(filepath.Join(f.dir, "dir")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
