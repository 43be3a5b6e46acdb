package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/client"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// An enrolled agent follows a rotation of the signing key, also one that was made while it
// was switched off.
func TestSigningKeyRotation(t *testing.T) {
	t.Parallel()
	f := &fleet{t: t, dir: t.TempDir()}
	address := freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	file := f.write("controlplane.yaml", types+fmt.Sprintf("data_dir: %q\napi: {address: 127.0.0.1, port: %s, heartbeat: 200ms}\n", filepath.Join(f.dir, "cp"), port))
	plane := startProgram(t, "tasker-controlplane", "run", "--config", file)
	waitLog(t, plane, "control plane started", 1)
	c, err := client.New(client.Options{URL: "http://" + address, Token: strings.TrimSpace(readFile(t, filepath.Join(f.dir, "cp", "admin.token")))})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	token, err := c.CreateEnrolToken(t.Context(), "1h", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	agentFile := f.write("agent.yaml", fmt.Sprintf("data_dir: %q\nmetrics: {port: 0}\nlog: {format: text}\n", filepath.Join(f.dir, "agent")))
	runProgram(t, "tasker-agent", "enrol", "--config", agentFile, "--server", "http://"+address, "--token", token.Token, "--endpoint", "web-1", "--no-start")
	agent := startProgram(t, "tasker-agent", "run", "--config", agentFile)
	ping := func(identifier string) {
		t.Helper()
		task, err := c.Create(t.Context(), "ping", client.Request{Identifier: identifier, Endpoints: []string{"web-1"}})
		if err != nil {
			t.Fatal(err)
		}
		wait.For(t, "the task "+identifier, func() bool {
			d, err := c.Get(t.Context(), "ping", task.ID)
			if err != nil || d.Task.FinishedAt == nil {
				return false
			}
			if d.Task.Status != tasker.TaskSucceeded {
				t.Fatalf("%s is %s: %+v", identifier, d.Task.Status, d.Responses)
			}
			return true
		})
	}
	rotate := func() {
		t.Helper()
		runProgram(t, "tasker-controlplane", "signing-key", "rotate", "--overlap", "0s", "--config", file)
		plane.signal(t, syscall.SIGHUP)
	}
	keys := func() string {
		var identity struct{ Keys []string }
		if err := json.Unmarshal([]byte(readFile(t, filepath.Join(f.dir, "agent", "identity.json"))), &identity); err != nil {
			t.Fatal(err)
		}
		return strings.Join(identity.Keys, " ")
	}
	ping("before")
	first := keys()

	rotate()
	waitLog(t, agent, "a signing key has retired", 1)
	ping("after")
	if second := keys(); second == first || len(second) != len(first) {
		t.Errorf("the keys were %s and are %s", first, second)
	}

	agent.stop(t)
	rotate()
	waitLog(t, plane, "orders are signed with another key", 2)
	agent = startProgram(t, "tasker-agent", "run", "--config", agentFile)
	ping("after the second one")
	waitLog(t, agent, "a signing key has retired", 1)
	if out := runProgram(t, "tasker-controlplane", "signing-key", "show", "--config", file); strings.Count(out, "\n") != 4 || !strings.Contains(out, "1 of 1 endpoints") {
		t.Errorf("signing-key show:\n%s", out)
	}
}

// runProgram runs a program to its end and returns its output.
func runProgram(t *testing.T, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(programs, program), args...) //nolint:gosec // programs of this module
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v", program, args, err)
	}
	return string(out)
}
