package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
)

// exampleHandlers adds the task types of examples/ to a control plane's configuration.
const exampleHandlers = `handlers: [disk-usage]
task_types:
  - {name: set-motd, handler: script}
  - {name: collect-logs, handler: script}
  - {name: update-app, handler: script}
  - disk-usage
`

// newExampleFleet starts a control plane that knows the types of the examples.
func newExampleFleet(t *testing.T) *fleet {
	t.Helper()
	backend := backends()["http+sqlite"](t)
	f := &fleet{t: t, dir: t.TempDir(), backend: backend, agents: map[string]*process{}}
	f.configure("cp")
	config, err := os.ReadFile(f.config)
	if err != nil {
		t.Fatal(err)
	}
	f.write(filepath.Base(f.config), exampleHandlers+strings.TrimPrefix(string(config), types))
	f.startControlPlane()
	return f
}

// example returns the content of a file of examples/.
func example(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("../../examples", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// buildExample builds a Go example beside the programs and returns its path.
func buildExample(t *testing.T, name string) string {
	t.Helper()
	program := filepath.Join(programs, name)
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../examples/"+name) //nolint:gosec // our own programs
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return program
}

func TestExample_handler_shell(t *testing.T) {
	t.Parallel()
	f := newExampleFleet(t)
	motd := f.write("motd", "welcome\n")
	f.script("set-motd", strings.Replace(example(t, "handler-shell/set-motd"), "/etc/motd", motd, 1))
	f.startAgent("web-1")
	content := func() string {
		b, err := os.ReadFile(motd)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}

	dry := f.waitFinished(f.post("set-motd", `{"identifier":"dry","payload":{"message":"maintenance"},"endpoints":["web-1"],"dry_run":true}`))
	if got := string(dry.response("web-1").Result); !strings.Contains(got, `"changed":true`) || content() != "welcome\n" {
		t.Errorf("the dry run returned %s and left %q", got, content())
	}
	done := f.waitFinished(f.post("set-motd", `{"identifier":"set","payload":{"message":"maintenance"},"endpoints":["web-1"]}`))
	if done.Task.Status != tasker.TaskSucceeded || content() != "maintenance\n" {
		t.Errorf("the task is %s and left %q: %+v", done.Task.Status, content(), done.Responses)
	}
	var undo tasker.Task
	f.call("POST", "/set-motd/set/undo", "", &undo)
	if undone := f.waitFinished(undo); undone.Task.Status != tasker.TaskSucceeded || content() != "welcome\n" {
		t.Errorf("the undo is %s and left %q: %+v", undone.Task.Status, content(), undone.Responses)
	}
	empty := f.waitFinished(f.post("set-motd", `{"identifier":"empty","payload":{},"endpoints":["web-1"]}`))
	if got := empty.response("web-1").Error; !strings.Contains(got, "the payload has no message") {
		t.Errorf("without a message the error is %q", got)
	}
}

func TestExample_handler_python(t *testing.T) {
	t.Parallel()
	f := newExampleFleet(t)
	log := f.write("app.log", "one\ntwo\nthree\n")
	f.script("collect-logs", example(t, "handler-python/collect-logs"))
	f.startAgent("web-1")
	done := f.waitFinished(f.post("collect-logs", `{"identifier":"count","payload":{"files":["`+log+`"]},"endpoints":["web-1"]}`))
	if got := string(done.response("web-1").Result); !strings.Contains(got, log+`":3`) {
		t.Errorf("the result is %s: %+v", got, done.Responses)
	}
	bad := f.waitFinished(f.post("collect-logs", `{"identifier":"bad","payload":{"files":["/no/such.log"]},"endpoints":["web-1"]}`))
	if got := bad.response("web-1").Error; !strings.Contains(got, "FileNotFoundError") {
		t.Errorf("with a file that does not exist the error is %q", got)
	}
}

func TestExample_handler_go(t *testing.T) {
	t.Parallel()
	f := newExampleFleet(t)
	buildExample(t, "handler-go")
	f.write("measured/file", "12345")
	startProgram(t, "handler-go", "run", "--config", f.agentConfig("web-1.yaml", "web-1", filepath.Join(f.dir, "web-1")))
	dir := filepath.Join(f.dir, "measured")
	done := f.waitFinished(f.post("disk-usage", `{"identifier":"du","payload":{"directories":["`+dir+`"]},"endpoints":["web-1"]}`))
	if got := string(done.response("web-1").Result); !strings.Contains(got, `"`+dir+`":5`) {
		t.Errorf("the result is %s: %+v", got, done.Responses)
	}
	refused := f.waitFinished(f.post("disk-usage", `{"identifier":"relative","payload":{"directories":["tmp"]},"endpoints":["web-1"]}`))
	if r := refused.response("web-1"); r.Status != tasker.Rejected {
		t.Errorf("a relative path is %s: %+v", r.Status, r)
	}
}

func TestExample_admin(t *testing.T) {
	t.Parallel()
	f := newExampleFleet(t)
	f.write("some.log", "one\n")
	f.script("collect-logs", example(t, "handler-python/collect-logs"))
	f.startAgent("web-1")
	for name, program := range map[string][]string{
		"curl":   {"sh", "../../examples/admin-curl/admin.sh"},
		"go":     {buildExample(t, "admin-go")},
		"python": {"python3", "../../examples/admin-python/admin.py"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := func(identifier, file string) (string, error) {
				args := append(program[1:len(program):len(program)], "collect-logs", identifier, `{"files":["`+file+`"]}`, "web-1")
				cmd := exec.CommandContext(t.Context(), program[0], args...) //nolint:gosec // our own examples
				cmd.Env = append(os.Environ(), "TASKER_URL=http://"+f.api)
				out, err := cmd.CombinedOutput()
				return string(out), err
			}
			if out, err := run(name+"-ok", filepath.Join(f.dir, "some.log")); err != nil || !strings.Contains(out, "web-1 succeeded ") {
				t.Errorf("%v\n%s", err, out)
			}
			if out, err := run(name+"-bad", "/no/such.log"); err == nil || !strings.Contains(out, "web-1 failed FileNotFoundError") {
				t.Errorf("a task that fails ends with %v\n%s", err, out)
			}
		})
	}
}

func TestExample_rollout(t *testing.T) {
	t.Parallel()
	f := newExampleFleet(t)
	f.script("update-app", "#!/bin/sh\necho '::result {\"changed\": true}'\n")
	f.startAgents(4)
	file := f.write("update.yaml", strings.Replace(example(t, "rollout/update.yaml"), "role=loadbalancer", "role", 1))
	for _, args := range [][]string{{"rollout", "plan", file}, {"task", "create", "--file", file, "--watch"}} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(programs, "tasker"), args...) //nolint:gosec // our own program
		cmd.Env = append(os.Environ(), "TASKER_URL=http://"+f.api)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("tasker %q: %v\n%s", args, err, out)
		}
	}
	a := f.get("update-app", "update-2.4.1")
	if a.Task.Status != tasker.TaskSucceeded || len(a.Responses) != 4 {
		t.Errorf("the rollout is %s with %d responses", a.Task.Status, len(a.Responses))
	}
}
