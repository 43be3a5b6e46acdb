package command_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/command"
	"github.com/MatthiasWiesner/tasker/handlers/process"
	"github.com/MatthiasWiesner/tasker/handlers/snapshot"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "supervise" {
		syscall.Exit(process.Supervise(os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

// newMux returns the handler with entries that permit no env, cwd, stdin and creates.
func newMux(t *testing.T, allow ...[]string) (*handlers.Mux, error) {
	t.Helper()
	var entries []command.Entry
	for _, argv := range allow {
		entries = append(entries, command.Entry{Argv: argv})
	}
	return newEntryMux(t, entries...)
}

func newEntryMux(t *testing.T, allow ...command.Entry) (*handlers.Mux, error) {
	t.Helper()
	h, err := command.New(command.Options{
		Allow:     allow,
		Runner:    &process.Runner{Grace: 200 * time.Millisecond, Log: slog.New(slog.NewTextHandler(t.Output(), nil))},
		Snapshots: snapshot.New(filepath.Join(t.TempDir(), "before")),
	})
	if err != nil {
		return nil, err
	}
	return handlers.NewMux(h)
}

// endpoint returns a new name, because leftover processes of a task are killed by the names
// of the task and the endpoint.
func endpoint() string { return "e-" + strings.ToLower(rand.Text()) }

// call validates a payload and calls the handler, like an agent. The output has e1 in place
// of the endpoint.
func call(ctx context.Context, t *testing.T, mux *handlers.Mux, payload string) (handlers.Result, string, error) {
	t.Helper()
	if err := mux.Validate(command.Name, json.RawMessage(payload)); err != nil {
		return handlers.Result{}, "", err
	}
	h, ok := mux.Lookup(command.Name)
	if !ok {
		t.Fatal("no handler")
	}
	var out bytes.Buffer
	endpoint := endpoint()
	result, err := h.Handle(ctx, handlers.Call{
		TaskID: "task-1", Identifier: "id-1", Endpoint: endpoint, Type: "command", Attempt: 2,
		Payload: json.RawMessage(payload), Output: &out,
		RecordProcess: func(handlers.Process) error { return nil },
	})
	return result, strings.ReplaceAll(out.String(), endpoint, "e1"), err
}

func TestPerform(t *testing.T) {
	t.Parallel()
	mux, err := newEntryMux(t,
		command.Entry{Argv: []string{"/bin/sh", "-c", "*"}}, command.Entry{Argv: []string{"/bin/cat"}, Stdin: true},
		command.Entry{Argv: []string{"/bin/echo", "a", "*"}}, command.Entry{Argv: []string{"/usr/bin/env"}, Env: []string{"FOO", "LANGUAGE"}},
		command.Entry{Argv: []string{"/bin/pwd"}, Cwd: []string{"/usr"}})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		payload, out, err string
		code              int
	}{
		{`{"argv":["/bin/echo","a","b c; $HOME"]}`, "b c; $HOME\n", "", 0},
		{`{"argv":["echo","a",""]}`, "a \n", "", 0},
		{`{"argv":["cat"],"stdin":"hello"}`, "hello", "", 0},
		{`{"argv":["cat"]}`, "", "", 0},
		{`{"argv":["pwd"],"cwd":"/usr"}`, "/usr\n", "", 0},
		{`{"argv":["env"],"env":{"FOO":"bar","LANGUAGE":"de"}}`, "FOO=bar\n", "", 0},
		{`{"argv":["env"]}`, "TASKER_ATTEMPT=2\nTASKER_ENDPOINT=e1\nTASKER_IDENTIFIER=id-1\nTASKER_TASK_ID=task-1\nTASKER_TYPE=command\n", "", 0},
		{`{"argv":["sh","-c","echo out; exit 3"]}`, "out\n", "exit code 3: out", 3},
		{`{"argv":["sh","-c","echo E: cannot open db >&2; echo cleaning up; exit 5"]}`, "E: cannot open db\n", "exit code 5: E: cannot open db", 5},
		{`{"argv":["sh","-c","kill -9 $$"]}`, "", "killed by SIGKILL", 137},
	}
	for _, tt := range tests {
		t.Run(tt.payload, func(t *testing.T) {
			t.Parallel()
			result, out, err := call(t.Context(), t, mux, tt.payload)
			if !strings.Contains(out, tt.out) {
				t.Errorf("output %q, want %q", out, tt.out)
			}
			if got := text(err); got != tt.err {
				t.Errorf("error %q, want %q", got, tt.err)
			}
			if result.ExitCode == nil || *result.ExitCode != tt.code || !cmp.Equal(result.Value, command.Outcome{Changed: true, ExitCode: &tt.code}) {
				t.Errorf("result %+v, want exit code %d", result, tt.code)
			}
		})
	}
}

func TestResultNamesProcessesThatWereEnded(t *testing.T) {
	t.Parallel()
	mux, err := newMux(t, []string{"/bin/sh", "-c", "*"})
	if err != nil {
		t.Fatal(err)
	}
	result, _, err := call(t.Context(), t, mux, `{"argv":["sh","-c","sleep 300 & until grep -qx sleep /proc/$!/comm; do :; done"]}`)
	if outcome, ok := result.Value.(command.Outcome); err != nil || !ok || outcome.Note != "ended 1 process (sleep) that the command left running" {
		t.Errorf("got %+v, %v", result, err)
	}
	// The unless command left the process running, and not the command.
	result, _, err = call(t.Context(), t, mux, `{"argv":["sh","-c",":"],"unless":["sh","-c","sleep 300 & until grep -qx sleep /proc/$!/comm; do :; done; false"]}`)
	if outcome, ok := result.Value.(command.Outcome); err != nil || !ok || outcome.Note != "ended 1 process (sleep) that the command left running" {
		t.Errorf("got %+v, %v", result, err)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestRejections(t *testing.T) {
	t.Parallel()
	mux, err := newMux(t, []string{"/bin/echo", "a", "*"}, []string{"/bin/sleep", "1"})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ payload, want string }{
		{`{}`, "payload.argv: is missing"},
		{`{"argv":"echo a b"}`, "payload.argv: must be an array, not a string"},
		{`{"argv":[]}`, "payload.argv: has 0 items"},
		{`{"argv":["echo",1]}`, "payload.argv[1]: must be a string, not a number"},
		{`{"argv":["echo"],"shell":true}`, "payload.shell: is not known"},
		{`{"argv":["echo"],"env":{"A":1}}`, "payload.env.A: must be a string, not a number"},
		{`{"argv":["echo"],"env":["A=1"]}`, "payload.env: must be an object, not an array"},
		{`{"argv":["echo","a","b"],"cwd":"tmp"}`, "payload.cwd: \"tmp\" is not a plain absolute path"},
		{`{"argv":["echo","a","b"],"cwd":"/usr/../tmp"}`, "payload.cwd: \"/usr/../tmp\" is not a plain absolute path"},
		{`{"argv":["echo","a","b"],"creates":"/usr/../tmp"}`, "payload.creates: \"/usr/../tmp\" is not a plain absolute path"},
		{`{"argv":["echo","a","b\u0000"]}`, "NUL"},
		{`{"argv":[""]}`, "payload.argv: names no program"},
		{`{"argv":["echo","a"]}`, `add ["/path/to/echo","a"] to handlers.command.allow`},
		{`{"argv":["/bin/echo","a","b","c"]}`, `add ["/bin/echo","a","b","c"] to handlers.command.allow`},
		{`{"argv":["/bin/echo","b","b"]}`, "does not allow"},
		{`{"argv":["/bin/../bin/echo","a","b"]}`, "does not allow"},
		{`{"argv":["//bin/echo","a","b"]}`, "does not allow"},
		{`{"argv":["./echo","a","b"]}`, "does not allow"},
		{`{"argv":["bin/echo","a","b"]}`, "does not allow"},
		{`{"argv":["/tmp/echo","a","b"]}`, "does not allow"},
		{`{"argv":["*","a","b"]}`, "does not allow"},
		{`{"argv":["sleep","1 "]}`, "does not allow"},
		{`{"argv":["/bin/sh","-c","echo a b"]}`, "does not allow"},
		{`{"argv":["echo","a","b"],"env":{"A B":"1"}}`, "not a variable name"},
		{`{"argv":["echo","a","b"],"env":{"A=":"1"}}`, "not a variable name"},
		{`{"argv":["echo","a","b"],"env":{"F":"() { :; }; echo"}}`, "payload.env.F"},
	}
	for _, name := range []string{
		"LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "PATH", "HOME", "IFS", "ENV", "BASH_ENV", "BASH_FUNC_x", "PYTHONPATH",
		"PERL5OPT", "RUBYOPT", "NODE_OPTIONS", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "GIT_SSH_COMMAND", "PAGER", "LESSOPEN",
		"GCONV_PATH", "GLIBC_TUNABLES", "TASKER_TASK_ID", "TASKER_ENDPOINT", "NOTIFY_SOCKET",
	} {
		tests = append(tests, struct{ payload, want string }{
			`{"argv":["echo","a","b"],"env":{"` + name + `":"x"}}`, "payload.env." + name + ": is refused",
		})
	}
	for _, tt := range tests {
		t.Run(tt.payload, func(t *testing.T) {
			t.Parallel()
			_, out, err := call(t.Context(), t, mux, tt.payload)
			var reject *handlers.RejectError
			var invalid *handlers.PayloadError
			if out != "" || !errors.As(err, &reject) && !errors.As(err, &invalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, %q, want %q", err, out, tt.want)
			}
		})
	}
}

func TestEmptyAllowListRejectsEverything(t *testing.T) {
	t.Parallel()
	mux, err := newMux(t)
	if err != nil {
		t.Fatal(err)
	}
	var reject *handlers.RejectError
	if _, _, err := call(t.Context(), t, mux, `{"argv":["/bin/true"]}`); !errors.As(err, &reject) {
		t.Errorf("got %v", err)
	}
}

func TestNewRefusesInvalidAllowList(t *testing.T) {
	t.Parallel()
	for _, entry := range [][]string{{}, {""}, {"*"}, {"sleep"}, {"./sleep"}, {"/bin/../bin/sleep"}, {"/bin//sleep"}, {"/"}, {"/bin/"}} {
		if _, err := newMux(t, []string{"/bin/true"}, entry); err == nil || !strings.Contains(err.Error(), "handlers.command: allow[1]") {
			t.Errorf("%q: %v", entry, err)
		}
	}
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	mux, err := newEntryMux(t, command.Entry{Argv: []string{"/no/such"}}, command.Entry{Argv: []string{"/bin/true"}, Cwd: []string{"/no/such", "/bin/true"}})
	if err != nil {
		t.Fatal(err)
	}
	for payload, want := range map[string]string{
		`{"argv":["/no/such"]}`:                    "start /no/such: no such file or directory",
		`{"argv":["/bin/true"],"cwd":"/no/such"}`:  "cwd /no/such: no such file or directory",
		`{"argv":["/bin/true"],"cwd":"/bin/true"}`: "cwd /bin/true: not a directory",
	} {
		result, _, err := call(t.Context(), t, mux, payload)
		if text(err) != want || result.ExitCode != nil {
			t.Errorf("%s: got %+v, %v, want %s", payload, result, err, want)
		}
	}
}

func TestCancelLeavesNoProcess(t *testing.T) {
	t.Parallel()
	mux, err := newMux(t, []string{"/bin/sleep", "*"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	h, _ := mux.Lookup(command.Name)
	var recorded []handlers.Process
	result, err := h.Handle(ctx, handlers.Call{
		Payload: json.RawMessage(`{"argv":["sleep","3600"]}`),
		RecordProcess: func(p handlers.Process) error {
			if recorded = append(recorded, p); len(recorded) == 2 {
				cancel(handlers.ErrCancelled)
			}
			return nil
		},
	})
	if !errors.Is(err, handlers.ErrCancelled) || result.ExitCode == nil || *result.ExitCode != 143 {
		t.Errorf("got %+v, %v", result, err)
	}
	if slices.ContainsFunc(recorded, func(p handlers.Process) bool { return syscall.Kill(p.PID, 0) == nil }) {
		t.Error("a process still runs")
	}
}
