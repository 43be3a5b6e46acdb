package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/rabbitmqtest"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

func TestDemoSucceedsAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	flags := map[string]func(t *testing.T) []string{
		"defaults": func(*testing.T) []string { return nil },
		"rabbitmq+mysql": func(t *testing.T) []string {
			t.Helper()
			return []string{"--database", storetest.MySQL(t).URI, "--message-queue", rabbitmqtest.New(t).URI}
		},
	}
	for name, newFlags := range flags {
		t.Run(name, func(t *testing.T) { // not in parallel: both prefer the usual ports
			demo := startProgram(t, "tasker", append([]string{"demo"}, newFlags(t)...)...)
			wait.For(t, "the demo to stay up", func() bool { return strings.Contains(demo.log.String(), "Everything stays up") })
			printed := demo.log.String()
			if !strings.Contains(printed, "succeeded (2 succeeded)") {
				t.Errorf("the demo's task did not succeed:\n%s", printed)
			}
			if name == "defaults" {
				runSuggested(t, printed)
			}
			dir := regexp.MustCompile(`in (\S+) \(removed`).FindStringSubmatch(printed)
			if dir == nil {
				t.Fatalf("the demo does not print its directory:\n%s", printed)
			}
			demo.signal(t, syscall.SIGINT)
			<-demo.done
			if code := demo.cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("Ctrl-C made it exit with %d:\n%s", code, demo.log)
			}
			if _, err := os.Stat(dir[1]); !os.IsNotExist(err) {
				t.Errorf("%s is still there", dir[1])
			}
			if left := processesWith(t, dir[1]); len(left) > 0 {
				t.Errorf("still running: %v", left)
			}
		})
	}
}

// runSuggested runs the commands that the demo prints at its end.
func runSuggested(t *testing.T, printed string) {
	t.Helper()
	_, printed, _ = strings.Cut(printed, "in another terminal:\n")
	lines := regexp.MustCompile(`(?m)^  (.+)$`).FindAllStringSubmatch(printed, -1)
	wants := []struct {
		says string
		code int
	}{
		{"loadbalancer-2", 0},
		{`"status": "succeeded"`, 0},
		{"version 2.4.1 serves again", 1},
		{`"identifier":"hello-1"`, 0},
		{`"status":"succeeded"`, 0},
		{`"message":"version 2.4.1 serves"`, 0},
	}
	if len(lines) != 1+len(wants) {
		t.Fatalf("the demo suggests %q", lines)
	}
	for i, want := range wants {
		line := lines[i+1][1]
		program, _, _ := strings.Cut(line, " ")
		if _, err := exec.LookPath(program); err != nil {
			t.Logf("left out: %v; make test installs it", err)
			continue
		}
		out, err := exec.CommandContext(t.Context(), "sh", "-c", lines[0][1]+"\n"+line).CombinedOutput()
		var exit *exec.ExitError
		if ok := err == nil && want.code == 0 || errors.As(err, &exit) && exit.ExitCode() == want.code; !ok || !strings.Contains(string(out), want.says) {
			t.Errorf("%s: %v, want %s in\n%s", line, err, want.says, out)
		}
	}
}

// processesWith returns the command lines that contain a text.
func processesWith(t *testing.T, text string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		if line, err := os.ReadFile(file); err == nil && strings.Contains(string(line), text) { //nolint:gosec // below /proc
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}
