package hosts

import (
	"fmt"
	"strings"
	"testing"
)

// The control plane of the package accepts its signing key as a credential of systemd, and
// refuses it if other users can read it. `systemctl reload` ends no process.
func TestSigningKeyAsCredential(t *testing.T) {
	t.Parallel()
	l := newLab(t, plane)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(l.sh(plane, "journalctl --no-pager --lines=40 --unit=tasker-controlplane"))
		}
	})
	l.install(plane, control, newer, deb())
	l.checkService(plane, control, "enabled active")
	if got := l.sh(plane, "stat -c '%U %a' /var/lib/tasker/signing.key"); got != "tasker 600" {
		t.Errorf("the signing key has the owner and mode %s", got)
	}

	const source = "/etc/tasker-controlplane/signing.key"
	l.sh(plane, "systemctl stop tasker-controlplane; mv /var/lib/tasker/signing.key "+source+"; chown root: "+source)
	l.sh(plane, "mkdir -p /etc/systemd/system/tasker-controlplane.service.d")
	l.put(plane, "/etc/systemd/system/tasker-controlplane.service.d/signing-key.conf", "[Service]\nLoadCredential=signing.key:"+source+"\n", "644")
	l.sh(plane, "printf 'signing:\\n  key_file: ${CREDENTIALS_DIRECTORY}/signing.key\\n' >>/etc/tasker-controlplane/config.yaml")
	l.sh(plane, "systemctl daemon-reload; systemctl start tasker-controlplane")
	l.checkService(plane, control, "enabled active")

	pid := func() string { return l.sh(plane, "systemctl show --value --property=MainPID tasker-controlplane") }
	before := pid()
	l.sh(plane, "systemctl reload tasker-controlplane")
	l.sh(plane, "for i in $(seq 100); do journalctl --unit=tasker-controlplane | grep -q 'reloaded: ' && exit; sleep 0.1; done; exit 1")
	if after := pid(); after != before {
		t.Errorf("the reload has replaced the process %s by %s", before, after)
	}

	out := l.sh(plane, "CREDENTIALS_DIRECTORY=/etc/tasker-controlplane tasker-controlplane signing-key rotate")
	if !strings.HasPrefix(out, "signing key ") || l.sh(plane, fmt.Sprintf("grep -c 'BEGIN PRIVATE KEY' %s; stat -c '%%U %%a' %s", source, source)) != "2\nroot 600" {
		t.Errorf("rotate prints %s", out)
	}
	l.sh(plane, "systemctl restart tasker-controlplane")
	l.checkService(plane, control, "enabled active")

	l.sh(plane, "chmod 644 "+source)
	if out := l.sh(plane, "CREDENTIALS_DIRECTORY=/etc/tasker-controlplane tasker-controlplane check-config 2>&1 || true"); !strings.Contains(out, "chmod 600 "+source) {
		t.Errorf("check-config prints %s", out)
	}
}
