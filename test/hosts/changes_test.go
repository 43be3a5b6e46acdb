package hosts

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/MatthiasWiesner/tasker"
)

// What file, command and script change on a host is planned before and undone
// afterwards, through the API.
func TestChangesArePlannedAndUndone(t *testing.T) {
	t.Parallel()
	f := newFleet(t, overHTTP(), one)
	f.sh(plane, "sed -i '1s/]/, file, deploy]/' /etc/tasker-controlplane/config.yaml; systemctl restart "+control)
	f.sh(one, `mkdir -p /etc/app /etc/tasker-agent/handlers.d
		printf '#!/bin/sh\n# tasker: restart=retry plan=yes undo=yes\necho $TASKER_ACTION >>/srv/actions\necho "::result {\\"changed\\":true}"\n' >/etc/tasker-agent/handlers.d/deploy
		chmod 755 /etc/tasker-agent/handlers.d/deploy
		sed -i 's|^handlers:|&\n  file: {allow: [/etc/app]}|' /etc/tasker-agent/config.yaml; systemctl restart `+agent)
	f.connected(one)
	changed := func(a answer) bool {
		t.Helper()
		r := a.of(t, one)
		var result struct{ Changed bool }
		if err := json.Unmarshal(r.Result, &result); err != nil || r.Status != tasker.Succeeded {
			t.Errorf("%s of %s: %+v, result %s (%v)", a.Task.Action, a.Task.Identifier, r, r.Result, err)
		}
		return result.Changed
	}
	has := func(what, script string) {
		t.Helper()
		if _, err := f.try("", "exec", one, "sh", "-euc", script); err != nil {
			t.Errorf("%s: %s does not hold: %v", what, script, err)
		}
	}
	for _, tt := range []struct {
		kind                   string
		payload                map[string]any
		planned, after, undone string
		changesAgain           bool
	}{
		{
			kind:    "file",
			payload: map[string]any{"path": "/etc/app/app.conf", "template": "name={{endpoint}}\n", "mode": "0640"},
			planned: "! test -e /etc/app/app.conf", undone: "! test -e /etc/app/app.conf",
			after: `test "$(cat /etc/app/app.conf) $(stat -c %a /etc/app/app.conf)" = "name=loadbalancer-1 640"`,
		},
		{
			kind: "command",
			payload: map[string]any{
				"argv": []string{"/bin/sh", "-c", "touch /srv/made"}, "creates": "/srv/made", "undo": []string{"/bin/sh", "-c", "rm /srv/made"},
			},
			planned: "! test -e /srv/made", after: "test -e /srv/made", undone: "! test -e /srv/made",
		},
		{
			kind: "deploy", payload: map[string]any{"version": "2"}, changesAgain: true,
			planned: `test "$(cat /srv/actions)" = plan`, after: "grep -q perform /srv/actions", undone: `test "$(tail -n 1 /srv/actions)" = undo`,
		},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			plan := f.ends(f.request(tt.kind, map[string]any{"identifier": "plan", "payload": tt.payload, "endpoints": []string{one}, "dry_run": true}))
			changed(plan)
			has("planned", tt.planned)
			task := f.post(tt.kind, "do", tt.payload, one)
			if !changed(f.ends(task)) {
				t.Error("nothing was changed")
			}
			has("done", tt.after)
			if changed(f.ends(f.post(tt.kind, "again", tt.payload, one))) != tt.changesAgain {
				t.Error("it was changed again")
			}
			var undo tasker.Task
			if code := f.call(http.MethodPost, "/"+tt.kind+"/"+task.ID+"/undo", "", &undo); code != http.StatusCreated || undo.Undoes != task.ID {
				t.Fatalf("POST undo answered %d: %+v", code, undo)
			}
			if !changed(f.ends(undo)) {
				t.Error("nothing was undone")
			}
			has("undone", tt.undone)
		})
	}
}
