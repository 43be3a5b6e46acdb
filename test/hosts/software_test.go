package hosts

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
)

// The tests of the handlers package and service need a real systemd, so they run on hosts.
func TestPackageAndServiceHandlers(t *testing.T) {
	t.Parallel()
	for _, handler := range []string{"ospackage", "service"} {
		t.Run(handler, func(t *testing.T) {
			t.Parallel()
			newLab(t, one).runTests(one, handler)
		})
	}
}

// The script of a package restarts the agent, and a task restarts the agent's own unit. The
// new agent reports both tasks once.
func TestAgentRestartsDuringTask(t *testing.T) {
	t.Parallel()
	f := newFleet(t, overHTTP())
	f.sh(plane, "sed -i '1s/]/, package, service]/' /etc/tasker-controlplane/config.yaml; systemctl restart "+control)
	f.configure(one, agent, agentConfig)
	f.sh(one, `sed -i 's/^  service:.*/  package: {allow: ["app-*"]}\n  service: {allow: [tasker-agent, "app-*"]}/' /etc/tasker-agent/config.yaml; systemctl restart `+agent)
	f.waitConnected(one)
	f.waitConnected(two)

	f.sh(one, `rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*; mkdir -p /srv/repository /srv/app/DEBIAN; echo 'deb [trusted=yes] file:/srv/repository ./' >/etc/apt/sources.list
		printf 'Package: app-web\nVersion: 1.0-1\nArchitecture: all\nMaintainer: none <none@example.net>\nDescription: none\n' >/srv/app/DEBIAN/control
		printf '#!/bin/sh\necho run >>/srv/runs\nsystemctl restart tasker-agent\n' >/srv/app/DEBIAN/postinst; chmod 755 /srv/app/DEBIAN/postinst
		cd /srv/repository; dpkg-deb --build /srv/app app.deb
		{ dpkg-deb --field app.deb; echo "Filename: ./app.deb"; echo "Size: $(stat -c %s app.deb)"; echo "SHA256: $(sha256sum app.deb | cut -d' ' -f1)"; } >Packages`)
	pid := func() string { return f.sh(one, "systemctl show --value --property=MainPID "+agent) }

	before := pid()
	r := f.waitFinished(f.post("package", "install", map[string]any{"packages": []any{map[string]string{"name": "app-web"}}}, one)).response(t, one)
	var installed struct {
		Changed  bool
		Packages []struct{ From, To string }
	}
	if err := json.Unmarshal(r.Result, &installed); err != nil || r.Status != tasker.Succeeded || !installed.Changed || len(installed.Packages) != 1 || installed.Packages[0].To != "1.0-1" {
		t.Errorf("%+v, %s (%v)", r, r.Result, err)
	}
	if after := pid(); after == before || f.sh(one, "cat /srv/runs") != "run" {
		t.Errorf("the agent was %s and is %s; the script has run: %s", before, after, f.sh(one, "cat /srv/runs"))
	}

	before = pid()
	r = f.waitFinished(f.post("service", "restart", map[string]string{"unit": agent, "verb": "restart"}, one)).response(t, one)
	var restarted struct{ Changed bool }
	if err := json.Unmarshal(r.Result, &restarted); err != nil || r.Status != tasker.Succeeded || !restarted.Changed {
		t.Errorf("%+v, %s (%v)", r, r.Result, err)
	}
	if after := pid(); after == before || f.sh(one, "systemctl show --value --property=NRestarts "+agent) != "0" {
		t.Errorf("the agent was %s and is %s", before, after)
	}
	again := pid()
	f.checkPing("afterwards", one)
	if after := pid(); after != again {
		t.Errorf("the agent was restarted again: %s, %s", again, after)
	}
	// By default nothing is allowed.
	for packageFormat, payload := range map[string]any{
		"package": map[string]any{"packages": []any{map[string]string{"name": "app-web"}}},
		"service": map[string]string{"unit": agent, "verb": "restart"},
	} {
		if r := f.waitFinished(f.post(packageFormat, "not-allowed", payload, two)).response(t, two); r.Status != tasker.Rejected || !strings.Contains(r.Reason, "to handlers."+packageFormat+".allow in the agent's configuration") {
			t.Errorf("%+v", r)
		}
	}
}
