package hosts

import (
	"net/http"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

func TestTasksBetweenHosts(t *testing.T) {
	t.Parallel()
	fabrics := map[string]func(*testing.T) fabric{
		"http+sqlite":    func(*testing.T) fabric { return overHTTP() },
		"rabbitmq+mysql": overRabbitMQ,
	}
	for name, on := range fabrics {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, on(t))
			f.pings("hello", one, two)
			a := f.ends(f.command("uname", "cat /etc/hostname", one, two))
			for _, host := range []string{one, two} {
				if r := a.of(t, host); r.Status != tasker.Succeeded {
					t.Errorf("%s: %+v", host, r)
				}
				if status := f.sh(host, "systemctl show --value --property=StatusText "+agent); status != "connected to the control plane" {
					t.Errorf("systemctl status of the agent on %s says %q", host, status)
				}
			}
			if status := f.sh(plane, "systemctl show --value --property=StatusText tasker-controlplane"); !strings.HasPrefix(status, "API at ") {
				t.Errorf("systemctl status of the control plane says %q", status)
			}
		})
	}
}

// What ends an agent while it performs a task, and comes back by itself, leaves an
// interrupted task, none of its processes, and an agent that works.
func TestAgentEndsInMidTask(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		end  func(f *fleet)
	}{
		{"killed", func(f *fleet) { f.sh(one, "systemctl kill --signal=KILL --kill-whom=main "+agent) }},
		{"restarted", func(f *fleet) { f.sh(one, "systemctl restart "+agent) }},
		{"rebooted", func(f *fleet) { f.do("reboot", one) }},
		{"without power", func(f *fleet) {
			f.do("cut", one)
			f.do("up", one)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, overHTTP())
			task := f.command("long", "setsid sleep 86411 & sleep 86412", one, two)
			f.begins(task, one)
			f.begins(task, two)
			test.end(f)
			wait.For(t, "the task to be interrupted", func() bool {
				return f.get(task).of(t, one).Status == tasker.Interrupted
			})
			if left := f.processes(one); left != "" {
				t.Errorf("left running:\n%s", left)
			}
			f.connected(one)
			f.pings("afterwards", one, two)
			if r := f.get(task).of(t, two); r.Status != tasker.Running {
				t.Errorf("the task on the other host: %+v", r)
			}
		})
	}
}

// A stopping agent lets a task that ends soon end.
func TestRestartWaitsForShortTasks(t *testing.T) {
	t.Parallel()
	f := newFleet(t, overHTTP())
	task := f.command("short", "touch /run/begun; while [ ! -e /run/go ]; do sleep 0.05; done", one)
	f.begins(task, one)
	f.sh(one, "systemctl restart --no-block "+agent+"; until systemctl show "+agent+" | grep -q ^SubState=stop-sigterm; do sleep 0.05; done; touch /run/go")
	if a := f.ends(task); a.Task.Status != tasker.TaskSucceeded {
		t.Errorf("%+v", a)
	}
}

// While a task runs its processes are in a cgroup of its own below the agent's;
// when it is cancelled nothing is left of either.
func TestCancelEndsTheWholeCgroup(t *testing.T) {
	t.Parallel()
	f := newFleet(t, overHTTP())
	task := f.command("long", "setsid sleep 86411 & trap '' TERM; while :; do sleep 86412; done", one)
	f.begins(task, one)
	const groups = "cat /sys/fs/cgroup/system.slice/tasker-agent.service/tasker-*/cgroup.procs 2>/dev/null | wc -l"
	wait.For(t, "the task's processes to be in a cgroup", func() bool { return f.sh(one, groups) >= "3" })
	var cancelled tasker.Task
	if code := f.call(http.MethodPost, "/command/"+task.ID+"/cancel", "", &cancelled); code/100 != 2 {
		t.Fatalf("cancel answered %d", code)
	}
	a := f.ends(task)
	if a.Task.Status != tasker.TaskCancelled || a.of(t, one).Status != tasker.Cancelled {
		t.Errorf("%+v", a)
	}
	if left := f.processes(one); left != "" {
		t.Errorf("left running when it is said to be cancelled:\n%s", left)
	}
	wait.For(t, "the cgroup to be removed", func() bool {
		return f.sh(one, "ls -d /sys/fs/cgroup/system.slice/tasker-agent.service/tasker-* 2>/dev/null || true") == ""
	})
}

// An agent that stands still is started again by systemd.
func TestWatchdogStartsAnAgentThatHangs(t *testing.T) {
	t.Parallel()
	f := newFleet(t, overHTTP())
	f.put(one, "/etc/systemd/system/tasker-agent.service.d/short.conf",
		"[Service]\nWatchdogSec=10s\nTimeoutAbortSec=1s\nRestartSec=100ms\n", "644")
	f.sh(one, "systemctl daemon-reload; systemctl restart "+agent)
	f.connected(one)
	f.sh(one, "systemctl kill --signal=STOP --kill-whom=main "+agent)
	wait.For(t, "the agent to be started again", func() bool {
		return f.sh(one, "systemctl show --value --property=NRestarts "+agent) != "0"
	})
	if log := f.sh(one, "journalctl --no-pager --unit="+agent); !strings.Contains(log, "Watchdog timeout") {
		t.Errorf("it was not the watchdog:\n%s", log)
	}
	f.connected(one)
	f.pings("afterwards", one)
}

// processes lists what the scripts of these tests leave behind.
func (f *fleet) processes(host string) string {
	f.t.Helper()
	return f.sh(host, "pgrep --list-full --full '[s]leep 8641' || true")
}
