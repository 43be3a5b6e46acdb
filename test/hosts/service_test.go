package hosts

import (
	"fmt"
	"strings"
	"testing"
)

// The agent is installed as a service without a package.
func TestServiceCommand(t *testing.T) {
	t.Parallel()
	l := newLab(t, one)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(l.sh(one, "journalctl --no-pager --lines=40 --unit=tasker-agent"))
		}
	})
	const program = "/opt/tasker/tasker-agent"
	file := l.file(one, agent, newer, deb())
	l.sh(one, "dpkg-deb --fsys-tarfile "+file+" | tar -C /opt --strip-components=3 --one-top-level=tasker -x ./usr/bin/tasker-agent")
	l.put(one, "/etc/tasker-agent/token", "none", "600")
	// Nothing listens at this address. The agent is ready as soon as it waits.
	l.put(one, "/etc/tasker-agent/config.yaml", fmt.Sprintf("endpoint: %s\nserver: {uri: \"http://127.0.0.1:8888\", token_file: /etc/tasker-agent/token}\n", one), "600")
	state := func() string { return l.sh(one, "systemctl is-active tasker-agent || true") }
	service := func(verb, want string) {
		t.Helper()
		if got := l.do("exec", one, program, "service", verb); !strings.HasSuffix(got, want) {
			t.Errorf("service %s says %q, want …%s", verb, got, want)
		}
	}
	refuses := func(verb, want string) {
		t.Helper()
		if got, err := l.try("", "exec", one, program, "service", verb); err == nil || !strings.Contains(got, want) {
			t.Errorf("service %s says %q (%v), want a refusal with …%s…", verb, got, err, want)
		}
	}

	refuses("status", "not installed")
	refuses("start", "not installed")
	service("install", "tasker-agent is installed")
	refuses("install", "already installed")
	service("status", "tasker-agent is stopped")
	if got := l.sh(one, "systemctl is-enabled tasker-agent; systemctl show --property=ExecStart,Delegate,Type tasker-agent"); !strings.Contains(got, "enabled") ||
		!strings.Contains(got, "path="+program+" ;") || !strings.Contains(got, "Delegate=yes") || !strings.Contains(got, "Type=notify") {
		t.Errorf("the installed unit: %s", got)
	}
	service("start", "tasker-agent is started")
	service("status", "tasker-agent is running")
	if got := l.sh(one, "systemctl show --value --property=StatusText tasker-agent"); !strings.HasPrefix(got, "not connected; retrying") && !strings.HasPrefix(got, "connecting") {
		t.Errorf("systemctl status prints %q", got)
	}
	before := l.sh(one, "systemctl show --value --property=MainPID tasker-agent")
	service("restart", "tasker-agent is restarted")
	if after := l.sh(one, "systemctl show --value --property=MainPID tasker-agent"); after == before || after == "0" {
		t.Errorf("the process was %s and is %s", before, after)
	}
	service("stop", "tasker-agent is stopped")
	if got := state(); got != "inactive" {
		t.Errorf("the stopped service is %s", got)
	}
	service("start", "tasker-agent is started")
	service("uninstall", "tasker-agent is uninstalled")
	if got := state(); got != "inactive" {
		t.Errorf("the uninstalled service is %s", got)
	}
	refuses("uninstall", "not installed")
	if got := l.sh(one, "find /etc/systemd /usr/lib/systemd -name '*tasker*'"); got != "" {
		t.Errorf("left behind: %s", got)
	}
	l.sh(one, "test -d /var/lib/tasker-agent -a -e /etc/tasker-agent/config.yaml")

	// The command refuses to replace the unit of a package or of an administrator.
	l.copy(one, "../../packaging/units/tasker-agent.service", "/usr/lib/systemd/system/tasker-agent.service", "644")
	l.sh(one, "systemctl daemon-reload")
	refuses("install", "belongs to a package")
	refuses("uninstall", "belongs to a package")
	l.sh(one, "mv /usr/lib/systemd/system/tasker-agent.service /etc/systemd/system/; systemctl daemon-reload")
	refuses("install", "remove it first")
	refuses("uninstall", "was not written by this program")
}
