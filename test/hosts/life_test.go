package hosts

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// kinds runs a test with each kind of packages.
func kinds(t *testing.T, test func(t *testing.T, k kind)) {
	t.Helper()
	for _, k := range []kind{deb(), rpm()} {
		t.Run(k.suffix, func(t *testing.T) {
			t.Parallel()
			test(t, k)
		})
	}
}

// The control plane runs when it is installed; an agent has to be configured first,
// which is said.
func TestInstall(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, k kind) {
		l := newLab(t, one)
		l.sh(one, k.prepare)
		before := l.files(one)
		l.install(one, control, newer, k)
		said := l.install(one, agent, newer, k)
		l.install(one, "tasker", newer, k)
		if !strings.Contains(said, "tasker-agent is installed but not started") {
			t.Errorf("the installation of an agent says %q", said)
		}
		l.is(one, control, "enabled active")
		l.is(one, agent, "disabled inactive")
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
		l.same(one, before)
		l.sh(one, "getent passwd tasker")
	})
}

// An upgrade restarts what runs and is not noticed otherwise; a downgrade is the same.
func TestUpgradeKeeps(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, k kind) {
		f := newFleetOf(t, overHTTP(), k, older)
		f.pings("before", one, two)
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
			f.runs(one, step.to)
			f.is(one, agent, "enabled active")
			f.is(two, agent, "disabled inactive")
			f.is(plane, control, "enabled active")
			if got := f.sh(one, "sha256sum /etc/tasker-agent/config.yaml /var/lib/tasker-agent/identity.json; stat -c '%a %U' /etc/tasker-agent/config.yaml"); got != edited {
				t.Errorf("the configuration was\n%s and is\n%s", edited, got)
			}
			if got := f.sh(plane, control+" version"); !strings.Contains(got, step.to) {
				t.Errorf("the control plane's version is %q, want %s", got, step.to)
			}
			f.pings("as "+step.to, one)
		}
		// One that is disabled and runs all the same is restarted, and stays disabled.
		f.sh(two, "systemctl start "+agent)
		f.install(two, agent, newer, k)
		f.runs(two, newer)
		f.is(two, agent, "disabled active")
	})
}

// A long task is interrupted by the upgrade of its agent, a short one ends; that of
// the control plane is noticed by none.
func TestUpgradeInMidTask(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, k kind) {
		f := newFleetOf(t, overHTTP(), k, older)
		long := f.command("long", "setsid sleep 86411 & sleep 86412", one)
		short := f.command("short", "until systemctl show "+agent+" | grep -q ^SubState=stop-sigterm; do sleep 0.05; done", one)
		other := f.command("other", "while [ ! -e /run/go ]; do sleep 0.05; done", two)
		f.begins(long, one)
		f.begins(short, one)
		f.begins(other, two)

		f.install(plane, control, newer, k)
		f.install(one, agent, newer, k)
		f.runs(one, newer)
		if a := f.ends(long); a.of(t, one).Status != tasker.Interrupted || a.Task.Status != tasker.TaskFailed {
			t.Errorf("the long task: %+v", a)
		}
		if a := f.ends(short); a.Task.Status != tasker.TaskSucceeded {
			t.Errorf("the short task: %+v", a)
		}
		if left := f.processes(one); left != "" {
			t.Errorf("left running:\n%s", left)
		}
		if r := f.get(other).of(t, two); r.Status != tasker.Running {
			t.Errorf("the task on the other host: %+v", r)
		}
		f.sh(two, "touch /run/go")
		if a := f.ends(other); a.Task.Status != tasker.TaskSucceeded {
			t.Errorf("the task on the other host: %+v", a)
		}
		f.pings("afterwards", one, two)
	})
}

// A removed agent can come back as it was. A purge of it, which only dpkg knows,
// leaves nothing.
func TestRemove(t *testing.T) {
	t.Parallel()
	kinds(t, func(t *testing.T, k kind) {
		f := newFleetOf(t, overHTTP(), k, newer)
		f.pings("before", one, two)
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
		f.runs(one, newer)
		f.is(one, agent, "enabled active")
		f.pings("again", one, two)

		// The control plane's tasks outlive its removal.
		task := f.post("ping", "kept", "hello", one)
		f.ends(task)
		f.remove(plane, control, k)
		f.sh(plane, "test -e /var/lib/tasker/tasker.db -a ! -e /usr/bin/tasker-controlplane")
		plan := strings.Replace(k.kept, agent, control, 1)
		f.sh(plane, fmt.Sprintf("[ %[1]s = /etc/tasker-controlplane/config.yaml ] || mv %[1]s /etc/tasker-controlplane/config.yaml", plan))
		f.install(plane, control, newer, k)
		wait.For(t, "the control plane to be back", func() bool { return f.call(http.MethodGet, "/endpoints", "", nil) == http.StatusOK })
		if a := f.get(task); a.Task.Status != tasker.TaskSucceeded {
			t.Errorf("the task of before: %+v", a)
		}
	})
}

// A purge of what has worked leaves nothing but the user.
func TestPurge(t *testing.T) {
	t.Parallel()
	k := deb()
	f := newFleet(t, overHTTP())
	f.pings("before", one)
	task := f.command("long", "setsid sleep 86411 & sleep 86412", one)
	f.begins(task, one)
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

// runs waits until the agent of a version is connected.
func (f *fleet) runs(endpoint, version string) {
	f.t.Helper()
	wait.For(f.t, endpoint+" to be connected with version "+version, func() bool {
		var e tasker.Endpoint
		return f.call(http.MethodGet, "/endpoints/"+endpoint, "", &e) == http.StatusOK && e.Connected && e.Version == version
	})
}

// is checks whether a service is enabled, and active.
func (l *lab) is(host, program, want string) {
	l.t.Helper()
	got := l.sh(host, fmt.Sprintf("echo $(systemctl is-enabled %[1]s || true; systemctl is-active %[1]s || true)", program))
	if got != want {
		l.t.Errorf("%s on %s is %q, want %q", program, host, got, want)
	}
}

// listing lists what is on the disk of a host but for logs and what apt keeps of all
// packages.
const listing = `find / -xdev \( -path /var/log -o -path /tmp -o -path /var/cache/apt -o -path /var/lib/apt \) -prune -o -print | sort`

func (l *lab) files(host string) string {
	l.t.Helper()
	return l.sh(host, listing)
}

// same checks that a host has the files that it had.
func (l *lab) same(host, before string) {
	l.t.Helper()
	l.put(host, "/tmp/before", before+"\n", "600")
	if got := l.sh(host, listing+" | diff /tmp/before - || true"); got != "" {
		l.t.Errorf("what was on the disk of %s and is:\n%s", host, got)
	}
}
