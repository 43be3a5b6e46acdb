package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
)

// A revoked server that still has its token cannot enrol again, with its old secret or a
// new one. A new token takes it back in.
func TestRevokedServerNeedsANewToken(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		token := f.enrolToken(`{"max_uses":5}`)
		agent := f.startEnrolled("web-1", token)
		if code := f.call(http.MethodPost, "/endpoints/web-1/revoke", "", nil); code != http.StatusOK {
			t.Fatalf("revoke answered %d", code)
		}
		agent.kill(t)
		identity := filepath.Join(f.dir, "web-1", "identity.json")
		for _, secret := range []string{"old", "new"} {
			if secret == "new" {
				if err := os.Remove(identity); err != nil {
					t.Fatal(err)
				}
			}
			if _, p := f.enrol("web-1", token); p.cmd.ProcessState.ExitCode() == 0 || !strings.Contains(p.log.String(), "revoked at") {
				t.Errorf("with the %s secret, enrol exited with %d:\n%s", secret, p.cmd.ProcessState.ExitCode(), p.log)
			}
		}
		if e := f.endpoint("web-1"); e.RevokedAt == nil {
			t.Error("the endpoint is not revoked any more")
		}
		f.startEnrolled("web-1", f.enrolToken(`{"labels":{"role":"db"}}`))
		if a := f.waitFinished(f.post("ping", `{"identifier":"again","labels":"role=db"}`)); a.Task.Status != tasker.TaskSucceeded {
			t.Errorf("after the new enrolment: %+v", a)
		}
	})
}
