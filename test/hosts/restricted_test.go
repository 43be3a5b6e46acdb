package hosts

import (
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// With the drop-in of the package, the agent runs without root. It performs tasks, and
// restarts the named units only.
func TestRestrictedAgent(t *testing.T) {
	t.Parallel()
	f := newFleet(t, overHTTP())
	const unit = "[Service]\nExecStart=/bin/sleep infinity\n"
	f.put(one, "/etc/systemd/system/nginx.service", unit, "644")
	f.put(one, "/etc/systemd/system/other.service", unit, "644")
	f.sh(one, "systemctl daemon-reload; systemctl start nginx other")
	var lines []string
	for line := range strings.Lines(f.sh(one, "cat /usr/share/tasker-agent/restricted/restricted.conf")) {
		if command, ok := strings.CutPrefix(line, "#   "); ok {
			lines = append(lines, command)
		}
	}
	// As after an upgrade by rpm.
	f.sh(one, strings.Join(lines, "")+"chgrp root /etc/tasker-agent/config.yaml; systemctl restart "+agent)
	if user := f.sh(one, "ps -o user= -p $(systemctl show --value --property=MainPID "+agent+")"); !strings.HasPrefix("tasker-agent", strings.TrimSuffix(user, "+")) {
		t.Errorf("the agent runs as %q", user)
	}
	f.waitConnected(one)

	for _, test := range []struct {
		name, script string
		want         tasker.ResponseStatus
	}{
		{"restart", "systemctl --no-ask-password restart nginx.service", tasker.Succeeded},
		{"stop", "systemctl --no-ask-password stop nginx.service", tasker.Failed},
		{"another-unit", "systemctl --no-ask-password restart other.service", tasker.Failed},
		{"write", "touch /etc/written", tasker.Failed},
		{"read", "cat /etc/shadow", tasker.Failed},
	} {
		before := f.sh(one, "systemctl show --value --property=MainPID nginx")
		r := f.waitFinished(f.command(test.name, test.script, one)).response(t, one)
		if r.Status != test.want {
			t.Errorf("%s: %+v", test.name, r)
		}
		if after := f.sh(one, "systemctl show --value --property=MainPID nginx"); (after != before) != (test.name == "restart") {
			t.Errorf("%s: the process of nginx was %s and is %s", test.name, before, after)
		}
	}
	task := f.command("long", "setsid sleep 86411 & sleep 86412", one)
	f.waitRunning(task, one)
	wait.For(t, "the task's processes to be in a cgroup of the restricted agent", func() bool {
		return f.sh(one, "cat /sys/fs/cgroup/system.slice/tasker-agent.service/tasker-*/cgroup.procs 2>/dev/null | wc -l") >= "3"
	})
	f.call("POST", "/command/"+task.ID+"/cancel", "", nil)
	if r := f.waitFinished(task).response(t, one); r.Status != tasker.Cancelled {
		t.Errorf("cancelled: %+v", r)
	}
	if left := f.processes(one); left != "" {
		t.Errorf("left running:\n%s", left)
	}

	// The files of an enrolment by root belong to the agent's user.
	f.sh(one, "systemctl stop "+agent+"; rm /var/lib/tasker-agent/identity.json")
	f.call("POST", "/endpoints/"+one+"/revoke", "", nil)
	f.sh(one, "tasker-agent enrol --server https://controlplane:8888 --token "+f.enrolToken(1))
	f.waitConnected(one)
	f.checkPing("again", one)
}
