package hosts

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// kinds runs a test with each package format.
func forEachFormat(t *testing.T, test func(t *testing.T, k packageFormat)) {
	t.Helper()
	for _, k := range []packageFormat{deb(), rpm()} {
		t.Run(k.suffix, func(t *testing.T) {
			t.Parallel()
			test(t, k)
		})
	}
}

// The installation starts the control plane. It does not start an agent, which must enrol
// first, and prints this.
func TestInstall(t *testing.T) {
	t.Parallel()
	forEachFormat(t, func(t *testing.T, k packageFormat) {
		l := newLab(t, one)
		l.sh(one, k.prepare)
		before := l.files(one)
		l.install(one, control, newer, k)
		output := l.install(one, agent, newer, k)
		l.install(one, "tasker", newer, k)
		if !strings.Contains(output, "tasker-agent is installed but not started") {
			t.Errorf("the installation of an agent prints %q", output)
		}
		l.checkService(one, control, "enabled active")
		l.checkService(one, agent, "disabled inactive")
		for file, want := range map[string]string{
			"/etc/tasker-agent/config.yaml": "640 root:root", "/var/lib/tasker-agent": "700 root:root",
			"/etc/tasker-controlplane/config.yaml": "640 root:tasker", "/var/lib/tasker": "700 tasker:tasker",
			"/var/lib/tasker/admin.token": "600 tasker:tasker",
		} {
			if got := l.sh(one, "stat -c '%a %U:%G' "+file); got != want {
				t.Errorf("%s is %s, want %s", file, got, want)
			}
		}
		if got := l.sh(one, "systemd-analyze verify --man=no tasker-agent.service tasker-controlplane.service 2>&1"); got != "" {
			t.Errorf("systemd says of the units: %s", got)
		}
		if got := l.sh(one, "getent passwd tasker | cut -d: -f6-; tasker endpoints"); !strings.HasPrefix(got, "/var/lib/tasker:/usr/sbin/nologin") {
			t.Errorf("the user is of %s", got)
		}
		for _, program := range []string{"tasker", agent, control} {
			l.remove(one, program, k)
		}
		if k.purge == "" {
			return
		}
		l.sh(one, k.purge+" "+agent+" "+control+" 2>&1")
		l.checkFiles(one, before)
		l.sh(one, "getent passwd tasker")
	})
}

// Upgrades and downgrades restart running services and keep everything else.
func TestUpgradeKeeps(t *testing.T) {
	t.Parallel()
	forEachFormat(t, func(t *testing.T, k packageFormat) {
		f := newFleetOf(t, overHTTP(), k, older)
		f.checkPing("before", one, two)
		f.sh(two, "systemctl disable --now "+agent)
		edited := f.sh(one, "sha256sum /etc/tasker-agent/config.yaml /var/lib/tasker-agent/identity.json; stat -c '%a %U' /etc/tasker-agent/config.yaml")

		for _, step := range []struct {
			to     string
			change func(host, program string)
		}{
			{newer, func(host, program string) { f.install(host, program, newer, k) }},
			{older, func(host, program string) { f.downgrade(host, program, older, k) }},
		} {
			step.change(plane, control)
			step.change(one, agent)
			step.change(two, agent)
			f.waitVersion(one, step.to)
			f.checkService(one, agent, "enabled active")
			f.checkService(two, agent, "disabled inactive")
			f.checkService(plane, control, "enabled active")
			if got := f.sh(one, "sha256sum /etc/tasker-agent/config.yaml /var/lib/tasker-agent/identity.json; stat -c '%a %U' /etc/tasker-agent/config.yaml"); got != edited {
				t.Errorf("the configuration was\n%s and is\n%s", edited, got)
			}
			if got := f.sh(plane, control+" version"); !strings.Contains(got, step.to) {
				t.Errorf("the control plane's version is %q, want %s", got, step.to)
			}
			f.checkPing("as "+step.to, one)
		}
		// A disabled service that is running is restarted and stays disabled.
		f.sh(two, "systemctl start "+agent)
		f.install(two, agent, newer, k)
		f.waitVersion(two, newer)
		f.checkService(two, agent, "disabled active")
	})
}

// A program whose configuration the new version refuses keeps running in the old version, so
// that the server can still be reached, and says what to correct.
func TestUpgradeWithRefusedConfiguration(t *testing.T) {
	t.Parallel()
	forEachFormat(t, func(t *testing.T, k packageFormat) {
		f := newFleetOf(t, overHTTP(), k, older, one)
		for host, program := range map[string]string{plane: control, one: agent} {
			f.sh(host, "echo 'unknown: key' >>/etc/"+program+"/config.yaml")
			output := f.install(host, program, newer, k)
			if !strings.Contains(output, "unknown key") || !strings.Contains(output, program+" was not restarted") {
				t.Errorf("the upgrade of %s prints %q", program, output)
			}
			f.checkService(host, program, "enabled active")
		}
		f.waitVersion(one, older)
		f.checkPing("before the correction", one)
		for host, program := range map[string]string{plane: control, one: agent} {
			f.sh(host, "sed -i '/unknown: key/d' /etc/"+program+"/config.yaml; systemctl restart "+program)
		}
		f.waitVersion(one, newer)
		f.checkPing("after the correction", one)
	})
}

// The upgrade of an agent interrupts a long task and waits for a short one. The upgrade of
// the control plane affects no task.
func TestUpgradeDuringTask(t *testing.T) {
	t.Parallel()
	forEachFormat(t, func(t *testing.T, k packageFormat) {
		f := newFleetOf(t, overHTTP(), k, older)
		long := f.command("long", "setsid sleep 86411 & sleep 86412", one)
		short := f.command("short", "until systemctl show "+agent+" | grep -q ^SubState=stop-sigterm; do sleep 0.05; done", one)
		other := f.command("other", "while [ ! -e /run/go ]; do sleep 0.05; done", two)
		f.waitRunning(long, one)
		f.waitRunning(short, one)
		f.waitRunning(other, two)

		f.install(plane, control, newer, k)
		f.install(one, agent, newer, k)
		f.waitVersion(one, newer)
		if a := f.waitFinished(long); a.response(t, one).Status != tasker.Interrupted || a.Task.Status != tasker.TaskFailed {
			t.Errorf("the long task: %+v", a)
		}
		if a := f.waitFinished(short); a.Task.Status != tasker.TaskSucceeded {
			t.Errorf("the short task: %+v", a)
		}
		if left := f.processes(one); left != "" {
			t.Errorf("left running:\n%s", left)
		}
		if r := f.get(other).response(t, two); r.Status != tasker.Running {
			t.Errorf("the task on the other host: %+v", r)
		}
		f.sh(two, "touch /run/go")
		if a := f.waitFinished(other); a.Task.Status != tasker.TaskSucceeded {
			t.Errorf("the task on the other host: %+v", a)
		}
		f.checkPing("afterwards", one, two)
	})
}

// A removed agent can be installed again with its state. A purge, which only dpkg supports,
// leaves nothing.
func TestRemove(t *testing.T) {
	t.Parallel()
	forEachFormat(t, func(t *testing.T, k packageFormat) {
		f := newFleetOf(t, overHTTP(), k, newer)
		f.checkPing("before", one, two)
		state := f.sh(one, "ls /var/lib/tasker-agent")
		config := f.sh(one, "cat /etc/tasker-agent/config.yaml")

		f.remove(one, agent, k)
		f.sh(one, "test ! -e /usr/bin/tasker-agent -a ! -e /usr/lib/systemd/system/tasker-agent.service; ! pgrep tasker-agent")
		if got := f.sh(one, "systemctl list-units --all --no-legend --state=active,activating,failed 'tasker*'"); got != "" {
			t.Errorf("still there: %s", got)
		}
		if got := f.sh(one, "ls /var/lib/tasker-agent"); got != state || state == "" {
			t.Errorf("the state was %q and is %q", state, got)
		}
		if got := f.sh(one, "cat "+k.kept); got != config {
			t.Errorf("the configuration was %q and is %q", config, got)
		}
		f.sh(one, "test -e /var/lib/tasker-agent/identity.json")
		wait.For(t, one+" to be away", func() bool {
			var e tasker.Endpoint
			return f.call(http.MethodGet, "/endpoints/"+one, "", &e) == http.StatusOK && !e.Connected
		})

		f.sh(one, fmt.Sprintf("[ %[1]s = /etc/tasker-agent/config.yaml ] || mv %[1]s /etc/tasker-agent/config.yaml", k.kept))
		f.install(one, agent, newer, k)
		f.waitVersion(one, newer)
		f.checkService(one, agent, "enabled active")
		f.checkPing("again", one, two)

		// The control plane's tasks survive its removal.
		task := f.post("ping", "kept", "hello", one)
		f.waitFinished(task)
		f.remove(plane, control, k)
		f.sh(plane, "test -e /var/lib/tasker/tasker.db -a ! -e /usr/bin/tasker-controlplane")
		plan := strings.Replace(k.kept, agent, control, 1)
		f.sh(plane, fmt.Sprintf("[ %[1]s = /etc/tasker-controlplane/config.yaml ] || mv %[1]s /etc/tasker-controlplane/config.yaml", plan))
		f.install(plane, control, newer, k)
		wait.For(t, "the control plane to be back", func() bool { return f.call(http.MethodGet, "/endpoints", "", nil) == http.StatusOK })
		if a := f.get(task); a.Task.Status != tasker.TaskSucceeded {
			t.Errorf("the task from before the removal: %+v", a)
		}
	})
}

// A purge after use leaves only the user.
func TestPurge(t *testing.T) {
	t.Parallel()
	k := deb()
	f := newFleet(t, overHTTP())
	f.checkPing("before", one)
	task := f.command("long", "setsid sleep 86411 & sleep 86412", one)
	f.waitRunning(task, one)
	f.sh(one, k.purge+" "+agent+" 2>&1")
	f.sh(plane, k.purge+" "+control+" 2>&1")
	for _, host := range []string{one, plane} {
		if got := f.sh(host, "find / -xdev -name '*tasker*' -not -path '/proc/*' -not -path '/var/log/apt/*'; find /run /sys/fs/cgroup -name '*tasker*'; pgrep -l tasker || true"); got != "" {
			t.Errorf("left behind on %s:\n%s", host, got)
		}
	}
	if left := f.processes(one); left != "" {
		t.Errorf("left running:\n%s", left)
	}
	f.sh(plane, "getent passwd tasker")
}

// waitVersion waits until an agent with a version is connected.
func (f *fleet) waitVersion(endpoint, version string) {
	f.t.Helper()
	wait.For(f.t, endpoint+" to be connected with version "+version, func() bool {
		var e tasker.Endpoint
		return f.call(http.MethodGet, "/endpoints/"+endpoint, "", &e) == http.StatusOK && e.Connected && e.Version == version
	})
}

// checkService checks whether a service is enabled and active.
func (l *lab) checkService(host, program, want string) {
	l.t.Helper()
	got := l.sh(host, fmt.Sprintf("echo $(systemctl is-enabled %[1]s || true; systemctl is-active %[1]s || true)", program))
	if got != want {
		l.t.Errorf("%s on %s is %q, want %q", program, host, got, want)
	}
}

// listing is a script that lists the files of a host, except logs and apt's caches.
const listing = `find / -xdev \( -path /var/log -o -path /tmp -o -path /var/cache/apt -o -path /var/lib/apt \) -prune -o -print | sort`

func (l *lab) files(host string) string {
	l.t.Helper()
	return l.sh(host, listing)
}

// checkFiles checks that the files of a host have not changed.
func (l *lab) checkFiles(host, before string) {
	l.t.Helper()
	l.put(host, "/tmp/before", before+"\n", "600")
	if got := l.sh(host, listing+" | diff /tmp/before - || true"); got != "" {
		l.t.Errorf("what was on the disk of %s and is:\n%s", host, got)
	}
}
