package file_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/file"
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
)

func TestNothingIsAllowedByDefault(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.put("a", "old", 0o644)
	outside := `{"path":"` + f.root + `/b","content":""}`
	for _, payload := range []string{
		outside,
		`{"path":"` + f.dir + `","content":""}`,
		`{"path":"` + f.dir + `-b/a","content":""}`,
		`{"path":"` + f.dir + `/../b","content":""}`,
		`{"path":"` + f.dir + `//a","content":""}`,
		`{"path":"` + f.dir + `/./a","content":""}`,
		`{"path":"` + f.dir + `/a\u0000","content":""}`,
		f.at(strings.Repeat("a", 250), `"content":""`),
	} {
		for i, got := range []ran{f.plan(payload), f.perform(payload), f.undo(payload)} {
			if !got.rejected() {
				t.Errorf("%d %s: %+v", i, payload, got)
			}
		}
	}
	f.allow()
	got := f.perform(f.at("a", `"content":""`))
	if want := `add its directory, "` + f.dir + `", or one above it to handlers.file.allow`; !got.rejected() || !strings.Contains(got.err.Error(), want) {
		t.Errorf("got %v, want %s", got.err, want)
	}
	f.holds(map[string]string{"a": "rw-r--r-- old"})
}

func TestBadAllowLists(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"", "/", "etc", "/etc/", "/etc/../etc", "/etc//app", "*"} {
		if _, err := file.New(file.Options{Allow: []string{"/etc", dir}}); err == nil || !strings.Contains(err.Error(), "handlers.file: allow[1]") {
			t.Errorf("%q: %v", dir, err)
		}
	}
}

func TestWhatIsNoFileIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mkdir("outside")
	f.mkdir("app/dir")
	f.put("real", "old", 0o644)
	for name, to := range map[string]string{
		"link": "real", "dangling": "none", "away": "../outside", "far": "/etc", "elsewhere": "../outside/a", "within": "dir", "loop": "loop",
	} {
		if err := os.Symlink(to, filepath.Join(f.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(f.dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(f.dir, "real"), 3); err != nil {
		t.Fatal(err)
	}
	big := filepath.Join(f.dir, "big")
	if err := os.WriteFile(big, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(big, 1<<40); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"dir":       "is a directory",
		"within":    "is a symbolic link: name the file to which it leads",
		"link":      "is a symbolic link",
		"dangling":  "is a symbolic link",
		"elsewhere": "is a symbolic link",
		"pipe":      "is a special file",
		"big":       "files of more than 16 MiB are not for this handler",
		"away/a":    "are not followed",
		"far/a":     "are not followed",
		"loop/a":    "loop",
		"pipe/a":    "is not a directory",
		"real/a":    "is not a directory",
		".tasker-x": "names that begin with .tasker- are for new files",
		"none/a":    "the directory " + f.dir + "/none does not exist: make it first",
	} {
		payload := f.at(name, `"content":"new"`)
		for i, got := range []ran{f.plan(payload), f.perform(payload)} {
			if !got.rejected() || !strings.Contains(got.err.Error(), want) {
				t.Errorf("%d %s: %v, want %s", i, name, got.err, want)
			}
		}
	}
	// A link to a directory within is followed, and nothing is to be removed where
	// there is no directory.
	if got := f.perform(f.at("within/a", `"content":"new"`)); got.err != nil || !got.Changed {
		t.Errorf("got %+v", got)
	}
	if content, err := os.ReadFile(filepath.Join(f.dir, "dir/a")); err != nil || string(content) != "new" {
		t.Errorf("got %q, %v", content, err)
	}
	if got := f.perform(f.at("none/a", `"state":"absent"`)); got.err != nil || got.Changed {
		t.Errorf("got %+v", got)
	}
	if left, err := os.ReadDir(filepath.Join(f.root, "outside")); err != nil || len(left) > 0 {
		t.Errorf("outside: %v, %v", left, err)
	}
}

func TestValidation(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.put("a.conf", "old", 0o640)
	old := map[string]string{"a.conf": "rw-r----- old"}
	check := func(script string) string {
		b, err := json.Marshal(script)
		if err != nil {
			t.Fatal(err)
		}
		return f.at("a.conf", `"content":"new","backup":true,"validate":["sh","-c",`+string(b)+`,"{}"]`)
	}
	for script, want := range map[string]string{
		`echo "line 3: bad" >&2; exit 4`: "does not accept the new one: exit code 4: line 3: bad",
		`kill -9 $$`:                     "killed by SIGKILL",
		`echo more >> $0`:                "is not what was written",
		`rm $0`:                          "is not what was written",
		`rm $0; ln -s a.conf $0`:         "is a symbolic link",
		`chmod 777 $0`:                   "is not what was written",
		`echo newer > ` + f.dir + `/b; cat ` + f.dir + `/b > ` + f.dir + `/a.conf; rm ` + f.dir + `/b`: "somebody else has just changed it",
	} {
		got := f.perform(check(script))
		if got.err == nil || got.Changed || !strings.Contains(got.err.Error(), want) {
			t.Errorf("%s: %+v, want %s", script, got, want)
		}
		if strings.Contains(script, "newer") {
			f.holds(map[string]string{"a.conf": "rw-r----- newer\n"})
			f.put("a.conf", "old", 0o640)
		}
		f.holds(old)
	}
	if got := f.plan(check("exit 1")); got.err != nil || !got.Changed || got.Backup == "" {
		t.Errorf("a plan validates nothing: %+v", got)
	}
	if got := f.undo(check("exit 1")); got.err != nil || got.Changed {
		t.Errorf("nothing was changed: %+v", got)
	}
	// The program sees the whole file, under its own ending.
	got := f.perform(check(`case $0 in *.conf) cat $0; stat -c %a $0;; esac`))
	if got.err != nil || !got.Changed || got.out != "new640\n" {
		t.Errorf("got %+v", got)
	}
	f.holds(map[string]string{"a.conf": "rw-r----- new", "a.conf.tasker-bak": "rw-r----- old"})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.put("a", "old", 0o644)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(handlers.ErrCancelled)
	for _, more := range []string{`"content":"new"`, `"state":"absent"`} {
		if got := f.act(ctx, "", "task-1", f.at("a", more)); !errors.Is(got.err, handlers.ErrCancelled) || got.Changed {
			t.Errorf("%s: %+v", more, got)
		}
	}
	ctx, cancel = context.WithCancelCause(t.Context())
	h, _ := f.Lookup(file.Name)
	started := make(chan struct{}, 2)
	go func() {
		<-started
		<-started
		cancel(handlers.ErrTimedOut)
	}()
	_, err := h.Handle(ctx, handlers.Call{
		TaskID: "task-1", Payload: json.RawMessage(f.at("a", `"content":"new","validate":["sh","-c","sleep 3600","{}"]`)),
		Progress: func(float64, string) {}, Output: t.Output(),
		RecordProcess: func(handlers.Process) error { started <- struct{}{}; return nil },
	})
	if !errors.Is(err, handlers.ErrTimedOut) {
		t.Errorf("got %v", err)
	}
	f.holds(map[string]string{"a": "rw-r--r-- old"})
}

// Whatever was changed by somebody else since is not undone.
func TestUndoLeavesOthersChangesAlone(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		before, more string
		meanwhile    func(path string) error
		want         string
		now          map[string]string
	}{
		"another content":     {"old", `"content":"new"`, func(p string) error { return os.WriteFile(p, []byte("theirs"), 0o600) }, "SHA-256 " + sum("theirs") + ", not SHA-256 " + sum("new"), map[string]string{"a": "rw-r--r-- theirs"}},
		"removed":             {"old", `"content":"new"`, os.Remove, "no file, not SHA-256", nil},
		"made again":          {"old", `"state":"absent"`, func(p string) error { return os.WriteFile(p, []byte("theirs"), 0o644) }, "not no file", map[string]string{"a": "rw-r--r-- theirs"}},
		"a first one":         {"", `"content":"new"`, func(p string) error { return os.WriteFile(p, []byte("theirs"), 0o600) }, "before the task there was no such file", map[string]string{"a": "rw-r--r-- theirs"}},
		"another mode":        {"old", `"content":"new"`, func(p string) error { return os.Chmod(p, 0o600) }, "", map[string]string{"a": "rw-r--r-- old"}},
		"as before":           {"old", `"content":"new"`, func(p string) error { return os.WriteFile(p, []byte("old"), 0o600) }, "", map[string]string{"a": "rw-r--r-- old"}},
		"not there as before": {"", `"content":"new"`, os.Remove, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			if tt.before != "" {
				f.put("a", tt.before, 0o644)
			}
			payload := f.at("a", tt.more)
			if got := f.perform(payload); got.err != nil || !got.Changed {
				t.Fatalf("perform: %+v", got)
			}
			if err := tt.meanwhile(filepath.Join(f.dir, "a")); err != nil {
				t.Fatal(err)
			}
			got := f.undo(payload)
			f.holds(tt.now)
			if tt.want == "" {
				if got.err != nil {
					t.Errorf("undo: %+v", got)
				}
				return
			}
			if got.err == nil || got.rejected() || got.Changed || !strings.Contains(got.err.Error(), "somebody else has changed it") || !strings.Contains(got.err.Error(), tt.want) {
				t.Errorf("undo: %+v", got)
			}
			if _, where, ok := strings.Cut(text(got.err), "before the task is in "); ok {
				if content, err := os.ReadFile(where); err != nil || string(content) != tt.before {
					t.Errorf("%s holds %q, %v", where, content, err)
				}
			}
		})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// An agent that was killed calls the handler again, which goes on from wherever it
// was.
func TestCrashes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.put("a", "old", 0o644)
	payload := f.at("a", `"content":"new"`)
	// Before the new file was in place: it is there in part, and there may be a record.
	f.put(".tasker-a", "ne", 0o600)
	type attributes struct {
		SHA256 string `json:"sha256"`
	}
	if err := snapshot.New(filepath.Join(f.root, "before")).Save("task-1", map[string]attributes{"before": {sum("older")}, "after": {sum("new")}}); err != nil {
		t.Fatal(err)
	}
	if got := f.perform(payload); got.err != nil || !got.Changed || got.From.SHA256 != sum("old") {
		t.Errorf("got %+v", got)
	}
	f.holds(map[string]string{"a": "rw-r--r-- new"})
	// After it was in place: it is said to have been changed, and can be undone.
	if got := f.perform(payload); got.err != nil || !got.Changed || got.From.SHA256 != sum("old") || !strings.Contains(got.Diff, "-old") {
		t.Errorf("again: %+v", got)
	}
	// After the undo had brought it back: there is a record, and nothing to do.
	f.put("a", "old", 0o644)
	if got := f.undo(payload); got.err != nil || got.Changed || got.Note != "it is as it was before the task" {
		t.Errorf("undo: %+v", got)
	}
	f.holds(map[string]string{"a": "rw-r--r-- old"})
	// What is as wanted already was not this task's doing, whatever it had begun.
	f.put("a", "new", 0o644)
	if err := snapshot.New(filepath.Join(f.root, "before")).Save("task-1", map[string]*attributes{"before": nil, "after": {sum("newer")}}); err != nil {
		t.Fatal(err)
	}
	if got := f.perform(payload); got.err != nil || got.Changed {
		t.Errorf("got %+v", got)
	}
	if got := f.undo(payload); got.err != nil || got.Changed {
		t.Errorf("undo: %+v", got)
	}
	f.holds(map[string]string{"a": "rw-r--r-- new"})
}

// The record's content is looked at before it is written anywhere.
func TestDamagedRecords(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.put("a", "old", 0o644)
	payload := f.at("a", `"content":"new"`)
	if got := f.perform(payload); got.err != nil {
		t.Fatal(got.err)
	}
	kept := filepath.Join(f.root, "before/task-1/content")
	if err := os.WriteFile(kept, []byte("ol"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := f.undo(payload); got.err == nil || !strings.Contains(got.err.Error(), kept+" is damaged") {
		t.Errorf("got %+v", got)
	}
	f.holds(map[string]string{"a": "rw-r--r-- new"})
}

// Tasks at one file wait for each other, so that each has a state before it, and
// undoing them backwards leads to the beginning.
func TestTasksAtOneFile(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mkdir("app/dir")
	if err := os.Symlink("dir", filepath.Join(f.dir, "way")); err != nil {
		t.Fatal(err)
	}
	tasks := []string{"dir/a", "way/a", "dir/a", "way/a", "dir/a", "way/a"}
	before := make(map[string]string)
	var mu sync.Mutex
	var all sync.WaitGroup
	for i, name := range tasks {
		all.Go(func() {
			task := string(rune('a' + i))
			got := f.act(t.Context(), "", task, f.at(name, `"content":"`+task+`"`))
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
		got := f.act(t.Context(), "undo", task, f.at("way/a", `"content":"`+task+`"`))
		if got.err != nil || !got.Changed || got.To != nil && got.To.SHA256 != before[task] {
			t.Fatalf("undo of %s: %+v", task, got)
		}
	}
	if left, err := os.ReadDir(filepath.Join(f.dir, "dir")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestOwners(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("left out: files of another user, which only root can make")
	}
	f := newFixture(t)
	f.put("a", "old", 0o640)
	path := filepath.Join(f.dir, "a")
	if err := os.Chown(path, 1, 2); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setxattr(path, "user.note", []byte("kept"), 0); err != nil && !errors.Is(err, syscall.ENOTSUP) {
		t.Fatal(err)
	}
	owner := func() []uint32 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			t.Fatal("no owner")
		}
		return []uint32{st.Uid, st.Gid}
	}
	payload := f.at("a", `"content":"new","owner":"nobody","backup":true`)
	got := f.perform(payload)
	if got.err != nil || got.To.Owner != "nobody" || got.From.Owner != "daemon" || got.To.Group != got.From.Group || !slices.Equal(owner(), []uint32{65534, 2}) {
		t.Errorf("got %+v, %v", got, owner())
	}
	value := make([]byte, 10)
	if n, err := syscall.Getxattr(path, "user.note", value); !errors.Is(err, syscall.ENOTSUP) && string(value[:max(n, 0)]) != "kept" {
		t.Errorf("the attribute is %q, %v", value[:max(n, 0)], err)
	}
	if got := f.perform(f.at("a", `"content":"new","owner":"12345","group":"54321"`)); got.err != nil || got.To.Owner != "12345" || !slices.Equal(owner(), []uint32{12345, 54321}) {
		t.Errorf("got %+v, %v", got, owner())
	}
	if got := f.undo(payload); got.err != nil || !got.Changed || !slices.Equal(owner(), []uint32{65534, 2}) {
		t.Errorf("got %+v, %v", got, owner())
	}
	// New files get the group of a directory that hands it on.
	if err := errors.Join(os.Chown(f.dir, 0, 7), os.Chmod(f.dir, 0o755|os.ModeSetgid)); err != nil {
		t.Fatal(err)
	}
	if got := f.perform(f.at("b", `"content":""`)); got.err != nil || got.To.Owner != "root" || got.To.Group != "lp" {
		t.Errorf("got %+v", got)
	}
}

// A file system of its own, which is full, holds the allowed directory, or the
// records.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("left out: a full disk, which only root can mount")
	}
	for _, full := range []string{"app", "before"} {
		t.Run(full, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			disk := filepath.Join(f.root, full)
			if full == "before" {
				f.mkdir(full)
			}
			if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=64k,mode=755"); err != nil {
				t.Skipf("left out: a full disk: %v", err)
			}
			t.Cleanup(func() {
				if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
					t.Error(err)
				}
			})
			f.put("a", strings.Repeat("old\n", 5_000), 0o640)
			filler := filepath.Join(disk, "filler")
			if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("the disk is not full: %v", err)
			}
			payload := f.at("a", `"content":"`+strings.Repeat("new ", 5_000)+`","backup":true`)
			for _, more := range []string{payload, f.at("a", `"state":"absent"`)} {
				if full == "app" && more != payload {
					continue // which needs no room there
				}
				got := f.perform(more)
				if got.err == nil || got.Changed || !strings.Contains(got.err.Error(), "has left "+f.dir+"/a alone") || !strings.Contains(got.err.Error(), "no space left on device: make room") {
					t.Errorf("got %+v", got)
				}
			}
			if got := f.undo(payload); got.err != nil || got.Changed {
				t.Errorf("undo: %+v", got)
			}
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
			f.holds(map[string]string{"a": "rw-r----- " + strings.Repeat("old\n", 5_000)})
			// With room again it goes well; undo needs room too.
			got := f.perform(f.at("a", `"content":"`+strings.Repeat("new ", 5_000)+`"`))
			if got.err != nil || !got.Changed {
				t.Fatalf("got %+v", got)
			}
			if full == "app" {
				if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
					t.Fatalf("the disk is not full: %v", err)
				}
				if got := f.undo(payload); got.err == nil || got.Changed || !strings.Contains(got.err.Error(), "is as the task left it") || !strings.Contains(got.err.Error(), "make room") {
					t.Errorf("undo: %+v", got)
				}
				if err := os.Remove(filler); err != nil {
					t.Fatal(err)
				}
			}
			if got := f.undo(payload); got.err != nil || !got.Changed {
				t.Errorf("undo: %+v", got)
			}
			f.holds(map[string]string{"a": "rw-r----- " + strings.Repeat("old\n", 5_000)})
		})
	}
}
