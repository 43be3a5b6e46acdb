package file_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers/file"
)

func TestWrite(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	payload := f.payload("a.conf", `"content":"one\ntwo\n"`)
	want := "--- /dev/null\n+++ " + f.dir + "/a.conf\n@@ -0,0 +1,2 @@\n+one\n+two\n"
	dry := f.dryRun(payload)
	if dry.err != nil || !dry.Changed || !dry.DryRun || dry.Diff != want || dry.From != nil || dry.To.SHA256 != sum("one\ntwo\n") {
		t.Errorf("dry run: %+v", dry)
	}
	f.wantFiles(nil)
	if _, err := os.Stat(filepath.Join(f.root, "before")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the dry run leaves snapshots: %v", err)
	}

	got := f.perform(payload)
	if got.err != nil || !got.Changed || got.DryRun || got.Diff != want || got.From != nil || *got.To != *dry.To || got.Path != f.dir+"/a.conf" {
		t.Errorf("perform: %+v", got)
	}
	f.wantFiles(map[string]string{"a.conf": "rw-r--r-- one\ntwo\n"})

	if got := f.call(t.Context(), "", "task-2", payload); got.err != nil || got.Changed || got.Diff != "" || *got.From != *got.To {
		t.Errorf("again: %+v", got)
	}
	if got := f.call(t.Context(), tasker.Undo, "task-2", payload); got.err != nil || got.Changed || !strings.Contains(got.Note, "nothing to undo") {
		t.Errorf("undo of a task that changed nothing: %+v", got)
	}
	if got := f.undo(payload); got.err != nil || !got.Changed || got.To != nil || !strings.Contains(got.Diff, "-one\n") {
		t.Errorf("undo: %+v", got)
	}
	f.wantFiles(nil)
	if got := f.undo(payload); got.err != nil || got.Changed || !strings.Contains(got.Note, "nothing to undo") {
		t.Errorf("undo again: %+v", got)
	}
	if left, err := os.ReadDir(filepath.Join(f.root, "before")); err != nil || len(left) > 0 {
		t.Errorf("snapshots are left: %v, %v", left, err)
	}
}

// Attributes that the payload does not name do not change.
func TestReplace(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		more, after, diff string
		backup            bool
	}{
		"content":               {`"content":"a\nc\n"`, "rw-r----- a\nc\n", "@@ -1,2 +1,2 @@\n a\n-b\n+c\n", false},
		"mode":                  {`"content":"a\nb\n","mode":"0600"`, "rw------- a\nb\n", "", false},
		"both":                  {`"content":"","mode":"0755"`, "rwxr-xr-x ", "@@ -1,2 +0,0 @@\n-a\n-b\n", false},
		"with a backup":         {`"content":"a\nc\n","backup":true`, "rw-r----- a\nc\n", "+c\n", true},
		"removal":               {`"state":"absent"`, "", "+++ /dev/null\n@@ -1,2 +0,0 @@\n-a\n-b\n", false},
		"removal with a backup": {`"state":"absent","backup":true`, "", "-b\n", true},
		"state and diff":        {`"state":"present","content":"a\nb\nc\n"`, "rw-r----- a\nb\nc\n", " b\n+c\n", false},
		"no last newline":       {`"content":"a\nb"`, "rw-r----- a\nb", `\ No newline at end of file`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.writeFile("a.conf", "a\nb\n", 0o640)
			payload := f.payload("a.conf", tt.more+`,"diff":true`)
			want := map[string]string{}
			if tt.after != "" {
				want["a.conf"] = tt.after
			}
			if tt.backup {
				want["a.conf.tasker-bak"] = "rw-r----- a\nb\n"
			}
			if got := f.dryRun(payload); got.err != nil || !got.Changed || !strings.Contains(got.Diff, tt.diff) || (got.Diff == "") != (tt.diff == "") {
				t.Errorf("dry run: %+v", got)
			}
			got := f.perform(payload)
			if got.err != nil || !got.Changed || !strings.Contains(got.Diff, tt.diff) || got.From.SHA256 != sum("a\nb\n") || got.From.Mode != "0640" || (got.Backup != "") != tt.backup {
				t.Errorf("perform: %+v", got)
			}
			f.wantFiles(want)
			if got := f.undo(payload); got.err != nil || !got.Changed || got.To.SHA256 != sum("a\nb\n") || got.To.Mode != "0640" || got.Backup != "" {
				t.Errorf("undo: %+v", got)
			}
			want["a.conf"] = "rw-r----- a\nb\n"
			f.wantFiles(want)
		})
	}
}

func TestTemplate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for more, want := range map[string]string{
		`"template":"port {{.port}} {{.big}} {{.ratio}}\n","values":{"port":8080,"big":12345678901,"ratio":0.25}`:          "port 8080 12345678901 0.25\n",
		`"template":"{{identifier}} {{ .db.host }}:{{.db.port}}{{.none}}","values":{"db":{"host":"a","port":1},"none":""}`: "id-1 a:1",
		`"template":"{ {.port} }} {{.on}}","values":{"on":true}`:                                                           "{ {.port} }} true",
		`"content":"{{.port}}"`: "{{.port}}",
	} {
		if got := f.perform(f.payload("a.conf", more)); got.err != nil || got.To.SHA256 != sum(want) {
			t.Errorf("%s: %+v", more, got)
		}
		f.wantFiles(map[string]string{"a.conf": "rw-r--r-- " + want})
	}
	for more, want := range map[string]string{
		`"template":"{{.port}}","values":{"prot":1}`:     `line 1: {{.port}}: there is no value "port"`,
		`"template":"{{.port}}"`:                         `there is no value "port"`,
		`"template":"a\n{{.port"`:                        "line 2: {{ without }}",
		`"template":"{{exec \"ls\"}}"`:                   "is unknown; known are endpoint, identifier and values",
		`"template":"{{.a.b}}","values":{"a":{}}`:        `there is no value "b"`,
		`"template":"{{.a.b.c}}","values":{"a":{"b":1}}`: `there is no value "c"`,
		`"template":"{{.a}}","values":{"a":[1]}`:         "is an object, a list or null",
		`"template":"` + strings.Repeat("{{.a}}", 20_000) + `","values":{"a":"` + strings.Repeat("x", 1000) + `"}`: "more than 16 MiB",
		`"template":"","content":""`:                                      "either content or template",
		`"mode":"0644"`:                                                   "either content or template",
		`"content":"","values":{}`:                                        "payload.values: can be used with payload.template only",
		`"state":"absent","content":""`:                                   "with state absent, only path",
		`"content":"","owner":"nobody-there"`:                             `payload.owner: there is no user "nobody-there"`,
		`"content":"","group":"nobody-there"`:                             `payload.group: there is no group "nobody-there"`,
		`"content":"","owner":"4294967295"`:                               "not the number of a user",
		`"content":"","validate":["/bin/true","{}"]`:                      `add ["/bin/true","{}"] to handlers.command.allow`,
		`"content":"","validate":["/bin/sh","-c","exit 0","/etc/passwd"]`: "exactly one argument must be {}",
		`"content":"","validate":["/bin/sh","-c","{}","{}"]`:              "exactly one argument must be {}",
		`"content":"","validate":["/bin/sh","-c","\u0000","{}"]`:          "NUL",
	} {
		for action, got := range map[string]result{"dry run": f.dryRun(f.payload("b.conf", more)), "perform": f.perform(f.payload("b.conf", more))} {
			if !got.rejected() || !strings.Contains(got.err.Error(), want) {
				t.Errorf("%s %s: %v, want %s", action, more, got.err, want)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(f.dir, "b.conf")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("b.conf: %v", err)
	}
}

func TestInvalidPayload(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for payload, want := range map[string]string{
		`{"content":""}`: "payload.path: is missing",
		`{"path":"a"}`:   "payload.path",
		`{"path":"/a/"}`: "payload.path",
		f.payload("a", `"content":"","mode":"644"`):   "payload.mode",
		f.payload("a", `"content":"","mode":"04755"`): "payload.mode",
		f.payload("a", `"content":"","mode":420`):     "payload.mode: must be a string, not a number",
		f.payload("a", `"state":"there"`):             "payload.state: must be one of",
		f.payload("a", `"content":"","validate":[]`):  "payload.validate",
		f.payload("a", `"contents":""`):               "payload.contents: is not known",
		// Combinations of fields, which the control plane refuses too.
		f.payload("a", `"content":"","template":""`):             "payload: either content or template is required",
		f.payload("a", `"mode":"0644"`):                          "payload: either content or template is required",
		f.payload("a", `"content":"","values":{}`):               "payload.values: can be used with payload.template only",
		f.payload("a", `"state":"absent","content":""`):          "payload: with state absent, only path, backup and diff",
		f.payload("a", `"template":"{{.a}}"`):                    `payload.template: line 1: {{.a}}: there is no value "a"`,
		f.payload("a", `"content":"","validate":["/bin/a","b"]`): "payload.validate: exactly one argument must be {}",
		`{"path":"/a/../b","content":""}`:                        "payload.path: \"/a/../b\" is not the plain absolute path",
		f.payload(".tasker-a", `"content":""`):                   "payload.path: names that begin with .tasker- are reserved",
	} {
		if err := f.Validate(file.Name, json.RawMessage(payload)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", payload, err, want)
		}
	}
}
