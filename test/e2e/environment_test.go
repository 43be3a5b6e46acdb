package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// startAgentFrom starts an agent from a shell that has run the commands of a script.
func startAgentFrom(f *fleet, script, further string) {
	f.t.Helper()
	config := f.write("web-1.yaml", f.backend.agents(f.api)+fmt.Sprintf("endpoint: web-1\ndata_dir: %q\nmetrics: {port: 0}\nhandlers:\n  command: {allow: [[\"/bin/sh\", \"-c\", \"*\"]]}\n%s\n",
		filepath.Join(f.dir, "web-1"), further))
	startCommand(f.t, exec.Command("sh", "-c", script+`; exec "$0" run --config "$1"`, filepath.Join(programs, "tasker-agent"), config)) //nolint:gosec // scripts of the tests
	wait.For(f.t, "web-1 to be connected", func() bool { return f.endpoint("web-1").Connected })
}

// shell runs a script as a task on web-1, and returns its output.
func (f *fleet) shell(identifier, script string) string {
	f.t.Helper()
	a := f.waitFinished(f.post("command", fmt.Sprintf(`{"identifier":%q,"endpoints":["web-1"],"payload":{"argv":["/bin/sh","-c",%q]}}`, identifier, script)))
	if a.Task.Status != tasker.TaskSucceeded {
		f.t.Errorf("%s: %+v", script, a.Responses)
	}
	return f.output(a.Task, "web-1")
}

// Commands do not depend on how the agent was started: a service manager sets no HOME and
// ignores SIGPIPE, a login shell has another PATH, and cron has a stdin that does not end.
func TestCommandsDoNotInheritTheSurroundingsOfTheAgent(t *testing.T) {
	t.Parallel()
	f := newFleet(t, backends()["http+sqlite"](t))
	startAgentFrom(f, `trap "" PIPE INT; unset HOME LANG; export PATH=/none LC_ALL=tr_TR.UTF-8 SECRET=x TZ=Asia/Kolkata`, "")
	if got, want := f.shell("environment", `echo "$HOME $LANG $PATH [$SECRET$LC_ALL$TZ]"; cat; pwd`),
		"/ C.UTF-8 /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin []\n/\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// yes ends by SIGPIPE; if it were ignored, it would print an error.
	got := f.shell("pipe", `yes 2>&1 | head -n 1; grep SigIgn /proc/self/status`)
	var ignored uint64
	if _, err := fmt.Sscanf(got, "y\nSigIgn: %x", &ignored); err != nil || ignored&(1<<(syscall.SIGPIPE-1)|1<<(syscall.SIGINT-1)) != 0 {
		t.Errorf("got %q, %v; SIGPIPE and SIGINT must not be ignored", got, err)
	}
}

// The modes of files do not depend on the umask that the agent was started with.
func TestFilesDoNotDependOnTheUmask(t *testing.T) {
	t.Parallel()
	for _, umask := range []string{"000", "077"} {
		t.Run(umask, func(t *testing.T) {
			t.Parallel()
			backend := backends()["http+sqlite"](t)
			backend.controlplane = "  - file\n" + backend.controlplane
			f := newFleet(t, backend)
			dir := filepath.Join(f.dir, "managed")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			startAgentFrom(f, "umask "+umask, fmt.Sprintf("  file: {allow: [%q]}", dir))
			path := filepath.Join(dir, "a")
			a := f.waitFinished(f.post("file", fmt.Sprintf(`{"identifier":"a","endpoints":["web-1"],"payload":{"path":%q,"content":"a"}}`, path)))
			if a.Task.Status != tasker.TaskSucceeded {
				t.Fatalf("got %+v", a.Responses)
			}
			for file, want := range map[string]os.FileMode{path: 0o644, filepath.Join(f.dir, "web-1", "journal.db"): 0o600} {
				if info, err := os.Stat(file); err != nil || info.Mode().Perm() != want {
					t.Errorf("%s: %v, %v; want %v", file, info.Mode(), err, want)
				}
			}
		})
	}
}

// 200 MB of output without a newline: the agent keeps its head and its tail, in little memory.
func TestEndlessLineOfOutputIsBounded(t *testing.T) {
	t.Parallel()
	f := newFleet(t, backends()["http+sqlite"](t))
	agent := f.startAgent("web-1")
	f.script("update-app", "#!/bin/sh\nhead -c 200000000 /dev/zero | tr '\\0' x; printf end\n")
	a := f.waitFinished(f.post("update-app", `{"identifier":"line","endpoints":["web-1"]}`))
	if a.Task.Status != tasker.TaskSucceeded {
		t.Errorf("got %+v", a.Responses)
	}
	if out := f.output(a.Task, "web-1"); len(out) > 400_000 || !strings.HasSuffix(out, "xend") {
		t.Errorf("kept %d bytes", len(out))
	}
	status := readFile(t, fmt.Sprintf("/proc/%d/status", agent.cmd.Process.Pid))
	var peak int
	for line := range strings.Lines(status) {
		_, _ = fmt.Sscanf(line, "VmHWM: %d kB", &peak)
	}
	if peak == 0 || peak > 100<<10 {
		t.Errorf("the agent has used %d kB", peak)
	}
}

// More connections than the control plane has file descriptors for are refused for a time.
// Afterwards it serves again, and its agent continues.
func TestControlPlaneRecoversFromTooManyConnections(t *testing.T) {
	t.Parallel()
	f := newFleet(t, backends()["http+sqlite"](t))
	f.cp.stop(t)
	f.cp = startCommand(t, exec.Command("sh", "-c", `ulimit -n 60; exec "$0" run --config "$1"`, filepath.Join(programs, "tasker-controlplane"), f.config)) //nolint:gosec // programs of this module
	waitLog(t, f.cp, "control plane started", 1)
	f.startAgent("web-1")
	var open []net.Conn
	for range 100 {
		c, err := net.DialTimeout("tcp", f.api, time.Second)
		if err != nil {
			break // its queue of connections is full
		}
		open = append(open, c)
	}
	t.Cleanup(func() {
		for _, c := range open {
			_ = c.Close()
		}
	})
	waitLog(t, f.cp, "no new connections are accepted for now", 1)
	for _, c := range open {
		_ = c.Close()
	}
	if a := f.waitFinished(f.post("ping", `{"identifier":"after","endpoints":["web-1"]}`)); a.Task.Status != tasker.TaskSucceeded {
		t.Errorf("got %+v", a.Responses)
	}
}
