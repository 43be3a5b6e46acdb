package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// A revoked server that still has its token cannot enrol again, with its old secret or a
// new one. A new token takes it back in.
func TestRevokedServerNeedsANewToken(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		name, token := uniqueName("web"), f.enrolToken(`{"max_uses":5}`)
		agent := f.startEnrolled(name, token)
		if code := f.call(http.MethodPost, "/endpoints/"+name+"/revoke", "", nil); code != http.StatusOK {
			t.Fatalf("revoke answered %d", code)
		}
		agent.kill(t)
		identity := filepath.Join(f.dir, name, "identity.json")
		for _, secret := range []string{"old", "new"} {
			if secret == "new" {
				if err := os.Remove(identity); err != nil {
					t.Fatal(err)
				}
			}
			if _, p := f.enrol(name, token); p.cmd.ProcessState.ExitCode() == 0 || !strings.Contains(p.log.String(), "revoked at") {
				t.Errorf("with the %s secret, enrol exited with %d:\n%s", secret, p.cmd.ProcessState.ExitCode(), p.log)
			}
		}
		if e := f.endpoint(name); e.RevokedAt == nil {
			t.Error("the endpoint is not revoked any more")
		}
		f.startEnrolled(name, f.enrolToken(`{"labels":{"role":"db"}}`))
		if a := f.waitFinished(f.post("ping", `{"identifier":"again","labels":"role=db"}`)); a.Task.Status != tasker.TaskSucceeded {
			t.Errorf("after the new enrolment: %+v", a)
		}
	})
}

// A task whose cancel does not reach the agent before its endpoint is revoked is
// interrupted, because its processes still run. The agent ends them when it is refused.
func TestRevokedAgentEndsItsTasks(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		name := uniqueName("web")
		agent := f.startEnrolled(name, f.enrolToken(`{"max_uses":1}`),
			"kill_grace: 1s", "unauthorized_timeout: 10ms", `handlers: {command: {allow: [["/bin/sh", "-c", "*"]]}}`)
		pidFile := filepath.Join(f.dir, "pid")
		command, err := json.Marshal("echo $$ >" + pidFile + ".new; mv " + pidFile + ".new " + pidFile + "; sleep 600")
		if err != nil {
			t.Fatal(err)
		}
		task := f.post("command", fmt.Sprintf(`{"identifier":"long","endpoints":[%q],"payload":{"argv":["/bin/sh","-c",%s]}}`, name, command))
		f.waitStatus(task, name, tasker.Running)
		var pid string
		wait.For(t, "the command to start", func() bool {
			content, err := os.ReadFile(pidFile) //nolint:gosec // written by this test
			pid = strings.TrimSpace(string(content))
			return err == nil
		})
		agent.freeze(t)
		f.control(task, "cancel", http.StatusAccepted)
		if code := f.call(http.MethodPost, "/endpoints/"+name+"/revoke", "", nil); code != http.StatusOK {
			t.Fatalf("revoke answered %d", code)
		}
		if r := f.waitFinished(task).response(name); r.Status != tasker.Interrupted || r.Reason != "revoked" || !r.Presumed {
			t.Errorf("the cancelled task of the revoked endpoint: %+v", r)
		}
		if _, err := os.Stat("/proc/" + pid); err != nil {
			t.Fatalf("the command has ended before the agent knows: %v", err)
		}
		agent.thaw(t)
		wait.For(t, "the agent to end the command", func() bool {
			_, err := os.Stat("/proc/" + pid)
			return os.IsNotExist(err)
		})
	})
}
