package script_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/internal/syncbuffer"
)

func TestPerform(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, script string
		code         int
		err          string
		out          string
		result       string
		progress     []string
	}{
		{name: "nothing", script: "exit 0"},
		{name: "payload on stdin", script: `cat`, out: `{"version":"7"}`},
		{name: "payload not read", script: `echo done`, out: "done\n"},
		{name: "result", script: `echo '::result {"a":1}'; echo text`, out: "text\n", result: `{"a":1}`},
		{name: "progress", script: `echo ::progress 10 one; echo "::progress 90 two"`, progress: []string{"10 one", "90 two"}},
		{name: "failed", script: `echo out; echo "no space" >&2; exit 3`, code: 3, err: "no space", out: "no space\n"},
		{name: "failed silently", script: `exit 3`, code: 3, err: "exit code 3"},
		{name: "failed with a result", script: `echo ::result 5; exit 3`, code: 3, err: "exit code 3", result: "5"},
		{name: "killed", script: `echo why >&2; kill -9 $$`, code: 137, err: "killed by SIGKILL: why", out: "why\n"},
		{name: "stderr is not the error of a success", script: `echo note >&2`, out: "note\n"},
		{name: "directives on stderr are ignored", script: `echo '::result 1' >&2`, out: "::result 1\n"},
		{name: "bad result", script: `echo ::result nope`, err: "the line ::result is refused: its JSON is not valid JSON at byte 2: invalid character 'o' in literal null (expecting 'u'): nope"},
		{name: "environment", script: `echo $TASKER_TASK_ID $TASKER_IDENTIFIER $TASKER_ENDPOINT $TASKER_TYPE $TASKER_ATTEMPT $TASKER_RESUMED $TASKER_ACTION/$TASKER_UNDOES`, out: "task-1 id-1 e1 update-app 1 0 perform/\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.write("update-app", "#!/bin/sh\n"+tt.script+"\n", 0o755)
			got := f.run(t.Context(), "update-app", `{"version":"7"}`)
			msg := ""
			if got.err != nil {
				msg = got.err.Error()
			}
			result := ""
			if got.result.Value != nil {
				b, err := json.Marshal(got.result.Value)
				if err != nil {
					t.Fatal(err)
				}
				result = string(b)
			}
			if msg != tt.err || result != tt.result || !slices.Equal(got.progress, tt.progress) || !strings.Contains(got.out, tt.out) {
				t.Errorf("got %+v", got)
			}
			if got.result.ExitCode == nil || *got.result.ExitCode != tt.code {
				t.Errorf("exit code %v, want %d", got.result.ExitCode, tt.code)
			}
		})
	}
}

func TestResultNamesProcessesThatWereEnded(t *testing.T) {
	t.Parallel()
	const note = "ended 1 process (sleep) that the command left running"
	for result, want := range map[string]string{
		``:                           `{"note":"` + note + `"}`,
		`{"changed":true}`:           `{"changed":true,"note":"` + note + `"}`,
		`{"note":"of the script"}`:   `{"note":"of the script"}`,
		`null`:                       `null`,
		`[1]`:                        `[1]`,
		`{"n":12345678901234567890}`: `{"n":12345678901234567890,"note":"` + note + `"}`,
	} {
		t.Run(result, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			text := "#!/bin/sh\nsleep 300 &\nuntil grep -qx sleep /proc/$!/comm; do :; done\n"
			if result != "" {
				text += "echo '::result " + result + "'\n"
			}
			f.write("daemon", text, 0o755)
			got := f.run(t.Context(), "daemon", `{}`)
			b, err := json.Marshal(got.result.Value)
			if got.err != nil || err != nil || string(b) != want || got.out != "tasker-agent: "+note+"\n" {
				t.Errorf("got %+v, %s, %v, want %s", got, b, err, want)
			}
		})
	}
}

func TestScriptWithoutInterpreterFailsWithTheReason(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.write("plain", "echo ran\n", 0o755)
	if got := f.run(t.Context(), "plain", `{}`); got.err == nil || !strings.Contains(got.err.Error(), `its first line does not name an interpreter, like "#!/bin/sh"`) {
		t.Errorf("got %+v", got)
	}
}

func TestWorkingDirectoryIsTheScriptDirectory(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.write("where", "#!/bin/sh\npwd\n", 0o700)
	if got := f.run(t.Context(), "where", `{}`); got.err != nil || strings.TrimSpace(got.out) != f.dir {
		t.Errorf("got %+v", got)
	}
}

func TestCancelReturnsTheExitCode(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.write("slow", "#!/bin/sh\ntrap 'echo ::result 5; exit 0' TERM\necho ::progress 1 x\nwhile :; do sleep 0.05; done\n", 0o755)
	ctx, cancel := context.WithCancelCause(t.Context())
	result, err := f.Handle(ctx, handlers.Call{
		TaskID: "task-1", Type: "slow", Payload: json.RawMessage(`{}`), Output: &syncbuffer.Buffer{},
		Progress: func(float64, string) { cancel(handlers.ErrTimedOut) },
	})
	if !errors.Is(err, handlers.ErrTimedOut) || result.ExitCode == nil || *result.ExitCode != 0 {
		t.Errorf("got %+v, %v", result, err)
	}
}
