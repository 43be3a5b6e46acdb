package hosts

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/MatthiasWiesner/tasker"
)

// Dry runs report the changes of file, command and script, and undo tasks revert them.
func TestDryRunAndUndo(t *testing.T) {
	t.Parallel()
	f := newFleet(t, overHTTP(), one)
	f.sh(plane, "sed -i '1s/]/, file, deploy]/' /etc/tasker-controlplane/config.yaml; systemctl restart "+control)
	f.sh(one, `mkdir -p /etc/app /etc/tasker-agent/handlers.d
		printf '#!/bin/sh\n# tasker: restart=retry plan=yes undo=yes\necho $TASKER_ACTION >>/srv/actions\necho "::result {\\"changed\\":true}"\n' >/etc/tasker-agent/handlers.d/deploy
		chmod 755 /etc/tasker-agent/handlers.d/deploy
		sed -i 's|^handlers:|&\n  file: {allow: [/etc/app]}|' /etc/tasker-agent/config.yaml; systemctl restart `+agent)
	f.waitConnected(one)
	changed := func(a answer) bool {
		t.Helper()
		r := a.response(t, one)
		var result struct{ Changed bool }
		if err := json.Unmarshal(r.Result, &result); err != nil || r.Status != tasker.Succeeded {
			t.Errorf("%s of %s: %+v, result %s (%v)", a.Task.Action, a.Task.Identifier, r, r.Result, err)
		}
		return result.Changed
	}
	has := func(what, script string) {
		t.Helper()
		if _, err := f.try("", "exec", one, "sh", "-euc", script); err != nil {
			t.Errorf("%s: %s failed: %v", what, script, err)
		}
	}
	for _, tt := range []struct {
		packageFormat          string
		payload                map[string]any
		planned, after, undone string
		changesAgain           bool
	}{
		{
			packageFormat: "file",
			payload:       map[string]any{"path": "/etc/app/app.conf", "template": "name={{endpoint}}\n", "mode": "0640"},
			planned:       "! test -e /etc/app/app.conf", undone: "! test -e /etc/app/app.conf",
			after: `test "$(cat /etc/app/app.conf) $(stat -c %a /etc/app/app.conf)" = "name=loadbalancer-1 640"`,
		},
		{
			packageFormat: "command",
			payload: map[string]any{
				"argv": []string{"/bin/sh", "-c", "touch /srv/made"}, "creates": "/srv/made", "undo": []string{"/bin/sh", "-c", "rm /srv/made"},
			},
			planned: "! test -e /srv/made", after: "test -e /srv/made", undone: "! test -e /srv/made",
		},
		{
			packageFormat: "deploy", payload: map[string]any{"version": "2"}, changesAgain: true,
			planned: `test "$(cat /srv/actions)" = plan`, after: "grep -q perform /srv/actions", undone: `test "$(tail -n 1 /srv/actions)" = undo`,
		},
	} {
		t.Run(tt.packageFormat, func(t *testing.T) {
			plan := f.waitFinished(f.request(tt.packageFormat, map[string]any{"identifier": "plan", "payload": tt.payload, "endpoints": []string{one}, "dry_run": true}))
			changed(plan)
			has("planned", tt.planned)
			task := f.post(tt.packageFormat, "do", tt.payload, one)
			if !changed(f.waitFinished(task)) {
				t.Error("nothing was changed")
			}
			has("done", tt.after)
			if changed(f.waitFinished(f.post(tt.packageFormat, "again", tt.payload, one))) != tt.changesAgain {
				t.Error("it was changed again")
			}
			var undo tasker.Task
			if code := f.call(http.MethodPost, "/"+tt.packageFormat+"/"+task.ID+"/undo", "", &undo); code != http.StatusCreated || undo.Undoes != task.ID {
				t.Fatalf("POST undo answered %d: %+v", code, undo)
			}
			if !changed(f.waitFinished(undo)) {
				t.Error("nothing was undone")
			}
			has("undone", tt.undone)
		})
	}
}
