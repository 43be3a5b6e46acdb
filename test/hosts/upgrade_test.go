package hosts

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

const upgradeType = "upgrade-agent"

// The tests of the package transientunit need a real systemd, so they run on a host.
func TestTransientUnits(t *testing.T) {
	t.Parallel()
	l := newLab(t, one)
	l.runTests(one, "transientunit")
}

// The new agent reports the upgrade of the agent by a task, with both versions and the output
// of the package manager.
func TestUpgradeByTask(t *testing.T) {
	t.Parallel()
	for _, k := range []packageFormat{deb(), rpm()} {
		t.Run(k.suffix, func(t *testing.T) {
			t.Parallel()
			f := newUpgradeFleet(t, k)
			config := f.sh(one, "sha256sum /etc/tasker-agent/config.yaml")
			other := f.command("other", "while [ ! -e /run/go ]; do sleep 0.05; done", two)
			f.waitRunning(other, two)
			steps := []struct{ version, from string }{{newer, older}, {older, newer}, {newer, older}, {newer, newer}}
			for i, step := range steps {
				path := f.file(one, agent, step.version, k)
				task := f.post(upgradeType, fmt.Sprintf("file-%d", i), map[string]string{"file": path}, one)
				f.checkUpgraded(task, step.from, step.version)
				f.waitVersion(one, step.version)
				f.checkPing(fmt.Sprintf("after-%d", i), one)
			}
			if got := f.sh(one, "sha256sum /etc/tasker-agent/config.yaml"); got != config {
				t.Errorf("the configuration was %s and is %s", config, got)
			}
			if r := f.get(other).response(t, two); r.Status != tasker.Running {
				t.Errorf("the task on the other host: %+v", r)
			}
			f.checkDryRun("dry", map[string]string{"file": f.file(one, agent, older, k)}, tasker.Succeeded, `"from":"`+newer+`"`)
			f.checkDryRun("dry-away", map[string]string{"file": "/tmp/away." + k.suffix}, tasker.Rejected, "there is no /tmp/away."+k.suffix)
			f.waitVersion(one, newer)
			f.checkFailure("another-package", map[string]string{"file": f.file(one, "tasker", newer, k)}, tasker.Rejected, "is not the package tasker-agent but tasker")
			f.checkFailure("away", map[string]string{"file": "/tmp/away." + k.suffix}, tasker.Rejected, "there is no /tmp/away."+k.suffix)
			f.checkFailure("unknown", map[string]string{"version": "7.7.7"}, tasker.Failed, "the package manager failed with exit code ")
			if code := f.call(http.MethodPost, "/"+upgradeType, `{"identifier":"bad","payload":{"version":"; reboot"}}`, nil); code != http.StatusUnprocessableEntity {
				t.Errorf("an invalid version returned %d", code)
			}
		})
	}
}

// The task names an older version, a newer one, or the latest.
func TestUpgradeFromRepository(t *testing.T) {
	t.Parallel()
	k := deb()
	f := newUpgradeFleet(t, k)
	f.sh(one, "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*; mkdir /srv/repository; echo 'deb [trusted=yes] file:/srv/repository ./' >/etc/apt/sources.list.d/tasker.list")
	offer := func(versions ...string) {
		t.Helper()
		f.sh(one, "rm -f /srv/repository/*; : >/srv/repository/Packages")
		for _, version := range versions {
			path := f.file(one, agent, version, k)
			f.sh(one, fmt.Sprintf(`mv %s /srv/repository; cd /srv/repository; p=%s
				{ dpkg-deb --field $p; echo "Filename: ./$p"; echo "Size: $(stat -c %%s $p)"; echo "SHA256: $(sha256sum $p | cut -d' ' -f1)"; echo; } >>Packages`, path, filepath.Base(path)))
		}
	}
	offer(older)
	f.checkUpgraded(f.post(upgradeType, "nothing-newer", map[string]string{}, one), older, older)
	offer(older, newer)
	f.checkUpgraded(f.post(upgradeType, "newest", map[string]string{}, one), older, newer)
	f.checkUpgraded(f.post(upgradeType, "back", map[string]string{"version": older}, one), newer, older)
	f.checkUpgraded(f.post(upgradeType, "whole-version", map[string]string{"version": newer + "-1"}, one), older, newer)
	f.waitVersion(one, newer)
	f.sh(one, "rm -r /srv/repository")
	// The latest version is unknown while the repository is unavailable.
	f.checkFailure("away", map[string]string{}, tasker.Failed, "the package manager failed with exit code 1")
}

// The agent, and then the upgrade, is ended while the upgrade waits for dpkg.
func TestUpgradeWithoutAgent(t *testing.T) {
	t.Parallel()
	k := deb()
	f := newUpgradeFleet(t, k)
	const path = "/srv/agent.deb" // a boot empties /tmp
	f.sh(one, "mv "+f.file(one, agent, newer, k)+" "+path)
	begin := func(identifier string) tasker.Task {
		t.Helper()
		f.sh(one, `rm -f /run/free; systemd-run --quiet --collect --unit=hold python3 -c '
import fcntl, os, time
lock = open("/var/lib/dpkg/lock-frontend", "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
open("/run/held", "w")
while not os.path.exists("/run/free"):
	time.sleep(0.05)
'; until [ -e /run/held ]; do sleep 0.05; done; rm /run/held`)
		task := f.post(upgradeType, identifier, map[string]string{"file": path}, one)
		wait.For(t, "the upgrade to wait for dpkg", func() bool { return f.sh(one, "pgrep --exact apt-get || true") != "" })
		f.waitRunning(task, one)
		return task
	}
	const free = "touch /run/free; while systemctl is-active --quiet hold; do sleep 0.05; done"

	task := begin("cancelled")
	f.sh(one, "systemctl stop "+agent)
	f.sh(one, "systemctl is-active tasker-upgrade-agent-"+task.ID+"-1")
	if code := f.call(http.MethodPost, "/"+upgradeType+"/"+task.ID+"/cancel", "", nil); code/100 != 2 {
		t.Fatalf("cancel answered %d", code)
	}
	f.sh(one, "systemctl start "+agent)
	if a := f.waitFinished(task); a.response(t, one).Status != tasker.Cancelled {
		t.Errorf("the cancelled upgrade: %+v", a)
	}
	f.checkNoUpgradeRuns()
	f.sh(one, free)

	task = begin("killed")
	second := f.post(upgradeType, "second", map[string]string{"file": path}, one)
	f.waitRunning(second, one)
	f.sh(one, "systemctl kill --signal=KILL --kill-whom=main "+agent)
	f.waitConnected(one)
	f.sh(one, "systemctl is-active tasker-upgrade-agent-"+task.ID+"-1; ! systemctl is-active tasker-upgrade-agent-"+second.ID+"-1")
	f.sh(one, free)
	f.checkUpgraded(task, older, newer)
	f.checkUpgraded(second, newer, newer)
	f.waitVersion(one, newer)
	f.checkNoUpgradeRuns()

	task = begin("rebooted")
	f.do("reboot", one)
	a := f.waitFinished(task)
	if r := a.response(t, one); r.Status != tasker.Failed || !strings.Contains(r.Error, "the package manager was interrupted") || !strings.HasSuffix(r.Error, "tasker-agent is at version 1.1.0") {
		t.Errorf("the upgrade in which the host was rebooted: %+v", r)
	}
	task = begin("without-power")
	f.do("cut", one)
	f.do("up", one)
	if r := f.waitFinished(task).response(t, one); r.Status != tasker.Failed || !strings.Contains(r.Error, "how the command ended is not known") {
		t.Errorf("the upgrade in which the host lost its power: %+v", r)
	}
	// A half installed package is repaired.
	f.sh(one, "dpkg --unpack "+path+"; [ \"$(dpkg-query --show --showformat='${db:Status-Status}' "+agent+")\" = unpacked ]")
	f.checkUpgraded(f.post(upgradeType, "repaired", map[string]string{"file": path}, one), newer, newer)
	f.checkPing("afterwards", one, two)
}

// newUpgradeFleet returns a fleet of the older version with the task type upgrade.
func newUpgradeFleet(t *testing.T, k packageFormat) *fleet {
	t.Helper()
	f := newFleetOf(t, overHTTP(), k, older)
	f.sh(plane, "sed -i '1s/]/, "+upgradeType+"]/' /etc/tasker-controlplane/config.yaml; systemctl restart "+control)
	f.waitConnected(one)
	f.waitConnected(two)
	return f
}

// checkUpgraded waits for an upgrade, which must succeed.
func (f *fleet) checkUpgraded(task tasker.Task, from, to string) {
	f.t.Helper()
	a := f.waitFinished(task)
	r := a.response(f.t, one)
	var got struct{ From, To string }
	if err := json.Unmarshal(r.Result, &got); err != nil || a.Task.Status != tasker.TaskSucceeded || got.From != from || got.To != to || r.ExitCode == nil || *r.ExitCode != 0 {
		f.t.Errorf("the upgrade from %s to %s: %+v, %s (%v)\n%s", from, to, r, r.Result, err, f.output(task))
	}
	// The output before and after the restart is one text, with each line once.
	text := f.output(task)
	if from != to && strings.Count(text, "Setting up "+agent) != 1 && strings.Count(text, "Complete!") != 1 {
		f.t.Errorf("the output of the upgrade:\n%s", text)
	}
}

// checkFailure checks how an upgrade fails.
func (f *fleet) checkFailure(identifier string, payload any, status tasker.ResponseStatus, why string) {
	f.t.Helper()
	r := f.waitFinished(f.post(upgradeType, identifier, payload, one)).response(f.t, one)
	if r.Status != status || !strings.Contains(r.Error+r.Reason, why) {
		f.t.Errorf("%s: %+v, want %s with %q", identifier, r, status, why)
	}
}

// checkDryRun checks the outcome of a dry run on the first host.
func (f *fleet) checkDryRun(identifier string, payload any, status tasker.ResponseStatus, want string) {
	f.t.Helper()
	body, err := json.Marshal(map[string]any{"identifier": identifier, "payload": payload, "endpoints": []string{one}, "dry_run": true})
	if err != nil {
		f.t.Fatal(err)
	}
	var task tasker.Task
	if code := f.call(http.MethodPost, "/"+upgradeType, string(body), &task); code != http.StatusCreated {
		f.t.Fatalf("POST of a dry run returned %d", code)
	}
	r := f.waitFinished(task).response(f.t, one)
	if r.Status != status || !strings.Contains(r.Reason+string(r.Result), want) {
		f.t.Errorf("%s: %+v, want %s with %q", identifier, r, status, want)
	}
}

// output returns the output of a task on the first host.
func (f *fleet) output(task tasker.Task) string {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, f.api+"/"+task.Type+"/"+task.ID+"/responses/"+one+"/output", http.NoBody)
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+f.token)
	resp, err := f.client.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		f.t.Fatalf("the output was answered with %d (%v): %s", resp.StatusCode, err, text)
	}
	return string(text)
}

// checkNoUpgradeRuns checks that no process of an upgrade is left.
func (f *fleet) checkNoUpgradeRuns() {
	f.t.Helper()
	if got := f.sh(one, "systemctl list-units --all --no-legend 'tasker-upgrade-*'; pgrep -a apt-get || true"); got != "" {
		f.t.Errorf("left running: %s", got)
	}
}
