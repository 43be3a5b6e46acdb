package file_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/file"
	"github.com/MatthiasWiesner/tasker/handlers/process"
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "supervise" {
		syscall.Exit(process.Supervise(os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

// fixture is an allowed directory, which everybody can read, and its handler.
type fixture struct {
	*handlers.Mux
	t *testing.T
	// root has the allowed directory dir and the records in it.
	root, dir string
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	root := t.TempDir()
	if err := os.Chmod(filepath.Dir(root), 0o755); err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, root: root, dir: filepath.Join(root, "app")}
	f.mkdir("app")
	f.allow(f.dir)
	return f
}

// allow makes the handler anew, for these directories.
func (f *fixture) allow(dirs ...string) {
	f.t.Helper()
	h, err := file.New(file.Options{
		Allow:     dirs,
		Commands:  [][]string{{"/bin/sh", "-c", "*", "{}"}},
		Runner:    &process.Runner{Grace: 200 * time.Millisecond, Log: slog.New(slog.NewTextHandler(f.t.Output(), nil))},
		Snapshots: snapshot.New(filepath.Join(f.root, "before")),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	if f.Mux, err = handlers.NewMux(h); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) mkdir(name string) {
	f.t.Helper()
	if err := os.Mkdir(filepath.Join(f.root, name), 0o755); err != nil {
		f.t.Fatal(err)
	}
}

// put makes a file in the allowed directory.
func (f *fixture) put(name, content string, mode os.FileMode) {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		f.t.Fatal(err)
	}
}

// holds checks what is in the allowed directory: "MODE CONTENT" by name.
func (f *fixture) holds(want map[string]string) {
	f.t.Helper()
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, e := range entries {
		if _, ok := want[e.Name()]; !ok {
			f.t.Errorf("there is a file %s", e.Name())
		}
	}
	for name, is := range want {
		path := filepath.Join(f.dir, name)
		content, err := os.ReadFile(path)
		if err != nil {
			f.t.Error(err)
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			f.t.Fatal(err)
		}
		if got := info.Mode().Perm().String()[1:] + " " + string(content); got != is {
			f.t.Errorf("%s is %q, want %q", name, got, is)
		}
	}
}

// at is the payload of a file in the allowed directory; more are its other fields.
func (f *fixture) at(name, more string) string {
	return `{"path":"` + filepath.Join(f.dir, name) + `",` + more + `}`
}

type ran struct {
	file.Outcome
	out string
	err error
}

// rejected says whether the error is a rejection.
func (r ran) rejected() bool {
	var reject *handlers.RejectError
	return errors.As(r.err, &reject)
}

func (f *fixture) perform(payload string) ran { return f.act(f.t.Context(), "", "task-1", payload) }
func (f *fixture) plan(payload string) ran {
	return f.act(f.t.Context(), tasker.Plan, "task-1", payload)
}

func (f *fixture) undo(payload string) ran {
	return f.act(f.t.Context(), tasker.Undo, "task-1", payload)
}

// act performs a task, plans or undoes it.
func (f *fixture) act(ctx context.Context, action tasker.Action, task, payload string) ran {
	f.t.Helper()
	if err := f.Validate(file.Name, json.RawMessage(payload)); err != nil {
		f.t.Fatal(err)
	}
	var out bytes.Buffer
	c := handlers.Call{
		TaskID: task, Identifier: "id-1", Endpoint: "e-" + strings.ToLower(rand.Text()), Type: "file", Attempt: 1,
		Payload: json.RawMessage(payload), Action: action, Output: &out,
		Progress:      func(float64, string) {},
		RecordProcess: func(handlers.Process) error { return nil },
	}
	if action == tasker.Undo {
		c.TaskID, c.Undoes = "undo-of-"+task, task
	}
	h, _ := f.Lookup(file.Name)
	result, err := h.Handle(ctx, c)
	r := ran{out: out.String(), err: err}
	r.Outcome, _ = result.Value.(file.Outcome)
	return r
}

func sum(content string) string {
	s := sha256.Sum256([]byte(content))
	return hex.EncodeToString(s[:])
}

func TestWrites(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	payload := f.at("a.conf", `"content":"one\ntwo\n"`)
	want := "--- /dev/null\n+++ " + f.dir + "/a.conf\n@@ -0,0 +1,2 @@\n+one\n+two\n"
	planned := f.plan(payload)
	if planned.err != nil || !planned.Changed || !planned.Plan || planned.Diff != want || planned.From != nil || planned.To.SHA256 != sum("one\ntwo\n") {
		t.Errorf("plan: %+v", planned)
	}
	f.holds(nil)
	if _, err := os.Stat(filepath.Join(f.root, "before")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a plan leaves records: %v", err)
	}

	got := f.perform(payload)
	if got.err != nil || !got.Changed || got.Plan || got.Diff != want || got.From != nil || *got.To != *planned.To || got.Path != f.dir+"/a.conf" {
		t.Errorf("perform: %+v", got)
	}
	f.holds(map[string]string{"a.conf": "rw-r--r-- one\ntwo\n"})

	if got := f.act(t.Context(), "", "task-2", payload); got.err != nil || got.Changed || got.Diff != "" || *got.From != *got.To {
		t.Errorf("again: %+v", got)
	}
	if got := f.act(t.Context(), tasker.Undo, "task-2", payload); got.err != nil || got.Changed || !strings.Contains(got.Note, "nothing to undo") {
		t.Errorf("undo of what changed nothing: %+v", got)
	}
	if got := f.undo(payload); got.err != nil || !got.Changed || got.To != nil || !strings.Contains(got.Diff, "-one\n") {
		t.Errorf("undo: %+v", got)
	}
	f.holds(nil)
	if got := f.undo(payload); got.err != nil || got.Changed || !strings.Contains(got.Note, "nothing to undo") {
		t.Errorf("undo again: %+v", got)
	}
	if left, err := os.ReadDir(filepath.Join(f.root, "before")); err != nil || len(left) > 0 {
		t.Errorf("records are left: %v, %v", left, err)
	}
}

// What a payload does not name stays, and comes back.
func TestReplaces(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		more, after, diff string
		backup            bool
	}{
		"content":         {`"content":"a\nc\n"`, "rw-r----- a\nc\n", "@@ -1,2 +1,2 @@\n a\n-b\n+c\n", false},
		"mode":            {`"content":"a\nb\n","mode":"0600"`, "rw------- a\nb\n", "", false},
		"both":            {`"content":"","mode":"0755"`, "rwxr-xr-x ", "@@ -1,2 +0,0 @@\n-a\n-b\n", false},
		"with a backup":   {`"content":"a\nc\n","backup":true`, "rw-r----- a\nc\n", "+c\n", true},
		"to nothing":      {`"state":"absent"`, "", "+++ /dev/null\n@@ -1,2 +0,0 @@\n-a\n-b\n", false},
		"to a backup":     {`"state":"absent","backup":true`, "", "-b\n", true},
		"state and diff":  {`"state":"present","content":"a\nb\nc\n"`, "rw-r----- a\nb\nc\n", " b\n+c\n", false},
		"no last newline": {`"content":"a\nb"`, "rw-r----- a\nb", `\ No newline at end of file`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.put("a.conf", "a\nb\n", 0o640)
			payload := f.at("a.conf", tt.more+`,"diff":true`)
			want := map[string]string{}
			if tt.after != "" {
				want["a.conf"] = tt.after
			}
			if tt.backup {
				want["a.conf.tasker-bak"] = "rw-r----- a\nb\n"
			}
			if got := f.plan(payload); got.err != nil || !got.Changed || !strings.Contains(got.Diff, tt.diff) || (got.Diff == "") != (tt.diff == "") {
				t.Errorf("plan: %+v", got)
			}
			got := f.perform(payload)
			if got.err != nil || !got.Changed || !strings.Contains(got.Diff, tt.diff) || got.From.SHA256 != sum("a\nb\n") || got.From.Mode != "0640" || (got.Backup != "") != tt.backup {
				t.Errorf("perform: %+v", got)
			}
			f.holds(want)
			if got := f.undo(payload); got.err != nil || !got.Changed || got.To.SHA256 != sum("a\nb\n") || got.To.Mode != "0640" || got.Backup != "" {
				t.Errorf("undo: %+v", got)
			}
			want["a.conf"] = "rw-r----- a\nb\n"
			f.holds(want)
		})
	}
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for more, want := range map[string]string{
		`"template":"port {{.port}} {{.big}} {{.ratio}}\n","values":{"port":8080,"big":12345678901,"ratio":0.25}`:          "port 8080 12345678901 0.25\n",
		`"template":"{{identifier}} {{ .db.host }}:{{.db.port}}{{.none}}","values":{"db":{"host":"a","port":1},"none":""}`: "id-1 a:1",
		`"template":"{ {.port} }} {{.on}}","values":{"on":true}`:                                                           "{ {.port} }} true",
		`"content":"{{.port}}"`: "{{.port}}",
	} {
		if got := f.perform(f.at("a.conf", more)); got.err != nil || got.To.SHA256 != sum(want) {
			t.Errorf("%s: %+v", more, got)
		}
		f.holds(map[string]string{"a.conf": "rw-r--r-- " + want})
	}
	for more, want := range map[string]string{
		`"template":"{{.port}}","values":{"prot":1}`:     `line 1: {{.port}}: there is no value "port"`,
		`"template":"{{.port}}"`:                         `there is no value "port"`,
		`"template":"a\n{{.port"`:                        "line 2: {{ without }}",
		`"template":"{{exec \"ls\"}}"`:                   "is not known; known are endpoint, identifier and values",
		`"template":"{{.a.b}}","values":{"a":{}}`:        `there is no value "b"`,
		`"template":"{{.a.b.c}}","values":{"a":{"b":1}}`: `there is no value "c"`,
		`"template":"{{.a}}","values":{"a":[1]}`:         "is an object, a list or null",
		`"template":"` + strings.Repeat("{{.a}}", 20_000) + `","values":{"a":"` + strings.Repeat("x", 1000) + `"}`: "more than 16 MiB",
		`"template":"","content":""`:                                      "either content or template",
		`"mode":"0644"`:                                                   "either content or template",
		`"content":"","values":{}`:                                        "payload.values are of use with payload.template only",
		`"state":"absent","content":""`:                                   "with state absent go only",
		`"content":"","owner":"nobody-there"`:                             `payload.owner: there is no user "nobody-there"`,
		`"content":"","group":"nobody-there"`:                             `payload.group: there is no group "nobody-there"`,
		`"content":"","owner":"4294967295"`:                               "no number of a user",
		`"content":"","validate":["/bin/true","{}"]`:                      `add ["/bin/true","{}"] to handlers.command.allow`,
		`"content":"","validate":["/bin/sh","-c","exit 0","/etc/passwd"]`: "handlers.command.allow",
		`"content":"","validate":["/bin/sh","-c","{}","{}"]`:              "exactly one argument has to be {}",
		`"content":"","validate":["/bin/sh","-c","\u0000","{}"]`:          "NUL",
	} {
		for action, got := range map[string]ran{"plan": f.plan(f.at("b.conf", more)), "perform": f.perform(f.at("b.conf", more))} {
			if !got.rejected() || !strings.Contains(got.err.Error(), want) {
				t.Errorf("%s %s: %v, want %s", action, more, got.err, want)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(f.dir, "b.conf")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("b.conf: %v", err)
	}
}

func TestPayloadsThatAreRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for payload, want := range map[string]string{
		`{"content":""}`:                        "payload.path: is missing",
		`{"path":"a"}`:                          "payload.path",
		`{"path":"/a/"}`:                        "payload.path",
		f.at("a", `"content":"","mode":"644"`):  "payload.mode",
		f.at("a", `"content":"","mode":"4755"`): "payload.mode",
		f.at("a", `"content":"","mode":420`):    "payload.mode: must be a string, not a number",
		f.at("a", `"state":"there"`):            "payload.state: must be one of",
		f.at("a", `"content":"","validate":[]`): "payload.validate",
		f.at("a", `"contents":""`):              "payload.contents: is not known",
	} {
		if err := f.Validate(file.Name, json.RawMessage(payload)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", payload, err, want)
		}
	}
}

// Secrets must not land in results by accident.
func TestWhatOthersCannotReadIsNotShown(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		old  os.FileMode
		more string
		dir  os.FileMode
		want bool
	}{
		"everybody's":           {0o644, ``, 0o755, true},
		"the group's":           {0o640, ``, 0o755, false},
		"until now":             {0o600, `,"mode":"0644"`, 0o755, false},
		"from now on":           {0o644, `,"mode":"0600"`, 0o755, false},
		"in a closed directory": {0o644, ``, 0o750, false},
		"asked for":             {0o600, `,"diff":true`, 0o750, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.put("a", "old secret\n", tt.old)
			if err := os.Chmod(f.dir, tt.dir); err != nil {
				t.Fatal(err)
			}
			payload := f.at("a", `"content":"new secret\n"`+tt.more)
			for i, got := range []ran{f.plan(payload), f.perform(payload), f.undo(payload)} {
				b, err := json.Marshal(got.Outcome)
				if err != nil || got.err != nil {
					t.Fatal(err, got.err)
				}
				if !got.Changed || strings.Contains(string(b), "secret") != tt.want || strings.Contains(got.Note, "left out") == tt.want {
					t.Errorf("step %d: %s", i, b)
				}
			}
		})
	}
}

func TestDiffsAreBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if err := os.WriteFile(filepath.Join(f.dir, "binary"), []byte{0, 1, 2}, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := f.perform(f.at("binary", `"content":"text"`)); got.err != nil || got.Diff != "" || got.Note != "there is no diff: the file is binary" {
		t.Errorf("binary: %+v", got)
	}
	f.put("long", strings.Repeat("<\n", 100_000), 0o644)
	got := f.perform(f.at("long", `"content":"short"`))
	b, err := json.Marshal(got.Outcome)
	if err != nil || got.err != nil || !strings.Contains(got.Note, "the diff is cut") || len(b) > tasker.MaxResult {
		t.Errorf("long: %d bytes, %s, %v", len(b), got.Note, got.err)
	}
	f.put("longer", strings.Repeat("a\n", 1_000_000), 0o644)
	if got := f.perform(f.at("longer", `"content":"short"`)); got.err != nil || got.Diff != "" || !strings.Contains(got.Note, "more than 1024 KiB") {
		t.Errorf("longer: %+v", got)
	}
}
