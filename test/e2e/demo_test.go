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
	grounds := map[string]func(t *testing.T) []string{
		"defaults": func(*testing.T) []string { return nil },
		"rabbitmq+mysql": func(t *testing.T) []string {
			t.Helper()
			return []string{"--database", storetest.MySQL(t).URI, "--message-queue", rabbitmqtest.New(t).URI}
		},
	}
	for name, ground := range grounds {
		t.Run(name, func(t *testing.T) { // one after the other: both like the usual ports best
			demo := start(t, "tasker", append([]string{"demo"}, ground(t)...)...)
			wait.For(t, "the demo to stay up", func() bool { return strings.Contains(demo.log.String(), "Everything stays up") })
			printed := demo.log.String()
			if !strings.Contains(printed, "succeeded (2 succeeded)") {
				t.Errorf("the demo's task did not succeed:\n%s", printed)
			}
			if name == "defaults" {
				suggested(t, printed)
			}
			dir := regexp.MustCompile(`in (\S+) \(removed`).FindStringSubmatch(printed)
			if dir == nil {
				t.Fatalf("the demo does not say where it is:\n%s", printed)
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

// suggested runs the commands that the demo ends with: one that succeeds, and a
// rollout that stops at its canary.
func suggested(t *testing.T, printed string) {
	t.Helper()
	_, printed, _ = strings.Cut(printed, "or from another terminal\n")
	lines := regexp.MustCompile(`(?m)^  (.+)$`).FindAllStringSubmatch(printed, -1)
	if len(lines) != 3 {
		t.Fatalf("the demo suggests %q", lines)
	}
	for i, want := range []string{`"status": "succeeded"`, "1 failed, 1 skipped"} {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", lines[0][1]+"\n"+lines[i+1][1]).CombinedOutput()
		var exit *exec.ExitError
		if ok := err == nil && i == 0 || errors.As(err, &exit) && exit.ExitCode() == i; !ok || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, want %s in\n%s", lines[i+1][1], err, want, out)
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
