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
	fabrics := map[string]func(*testing.T) topology{
		"http+sqlite":    func(*testing.T) topology { return overHTTP() },
		"rabbitmq+mysql": overRabbitMQ,
	}
	for name, on := range fabrics {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, on(t))
			f.checkPing("hello", one, two)
			a := f.waitFinished(f.command("uname", "cat /etc/hostname", one, two))
			for _, host := range []string{one, two} {
				if r := a.response(t, host); r.Status != tasker.Succeeded {
					t.Errorf("%s: %+v", host, r)
				}
				if status := f.sh(host, "systemctl show --value --property=StatusText "+agent); status != "connected to the control plane" {
					t.Errorf("systemctl status of the agent on %s prints %q", host, status)
				}
			}
			if status := f.sh(plane, "systemctl show --value --property=StatusText tasker-controlplane"); !strings.HasPrefix(status, "API at ") {
				t.Errorf("systemctl status of the control plane prints %q", status)
			}
		})
	}
}

// An agent ends during a task and starts again by itself. The task is interrupted, none of
// its processes is left, and the agent works.
func TestAgentEndsDuringTask(t *testing.T) {
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
			f.waitRunning(task, one)
			f.waitRunning(task, two)
			test.end(f)
			wait.For(t, "the task to be interrupted", func() bool {
				return f.get(task).response(t, one).Status == tasker.Interrupted
			})
			if left := f.processes(one); left != "" {
				t.Errorf("left running:\n%s", left)
			}
			f.waitConnected(one)
			f.checkPing("afterwards", one, two)
			if r := f.get(task).response(t, two); r.Status != tasker.Running {
				t.Errorf("the task on the other host: %+v", r)
			}
		})
	}
}

// A stopping agent waits for a short task.
func TestRestartWaitsForShortTasks(t *testing.T) {
	t.Parallel()
	f := newFleet(t, overHTTP())
	task := f.command("short", "touch /run/begun; while [ ! -e /run/go ]; do sleep 0.05; done", one)
	f.waitRunning(task, one)
	f.sh(one, "systemctl restart --no-block "+agent+"; until systemctl show "+agent+" | grep -q ^SubState=stop-sigterm; do sleep 0.05; done; touch /run/go")
	if a := f.waitFinished(task); a.Task.Status != tasker.TaskSucceeded {
		t.Errorf("%+v", a)
	}
}

// The processes of a task are in a cgroup below the agent's. A cancel removes both.
func TestCancelEndsTheWholeCgroup(t *testing.T) {
	t.Parallel()
	f := newFleet(t, overHTTP())
	task := f.command("long", "setsid sleep 86411 & trap '' TERM; while :; do sleep 86412; done", one)
	f.waitRunning(task, one)
	const groups = "cat /sys/fs/cgroup/system.slice/tasker-agent.service/tasker-*/cgroup.procs 2>/dev/null | wc -l"
	wait.For(t, "the task's processes to be in a cgroup", func() bool { return f.sh(one, groups) >= "3" })
	var cancelled tasker.Task
	if code := f.call(http.MethodPost, "/command/"+task.ID+"/cancel", "", &cancelled); code/100 != 2 {
		t.Fatalf("cancel answered %d", code)
	}
	a := f.waitFinished(task)
	if a.Task.Status != tasker.TaskCancelled || a.response(t, one).Status != tasker.Cancelled {
		t.Errorf("%+v", a)
	}
	if left := f.processes(one); left != "" {
		t.Errorf("left running after the cancel:\n%s", left)
	}
	wait.For(t, "the cgroup to be removed", func() bool {
		return f.sh(one, "ls -d /sys/fs/cgroup/system.slice/tasker-agent.service/tasker-* 2>/dev/null || true") == ""
	})
}

// systemd restarts an agent that hangs.
func TestWatchdogRestartsHangingAgent(t *testing.T) {
	t.Parallel()
	f := newFleet(t, overHTTP())
	f.put(one, "/etc/systemd/system/tasker-agent.service.d/short.conf",
		"[Service]\nWatchdogSec=10s\nTimeoutAbortSec=1s\nRestartSec=100ms\n", "644")
	f.sh(one, "systemctl daemon-reload; systemctl restart "+agent)
	f.waitConnected(one)
	f.sh(one, "systemctl kill --signal=STOP --kill-whom=main "+agent)
	wait.For(t, "the restart of the agent", func() bool {
		return f.sh(one, "systemctl show --value --property=NRestarts "+agent) != "0"
	})
	if log := f.sh(one, "journalctl --no-pager --unit="+agent); !strings.Contains(log, "Watchdog timeout") {
		t.Errorf("no watchdog timeout in the log:\n%s", log)
	}
	f.waitConnected(one)
	f.checkPing("afterwards", one)
}

// processes lists processes that the scripts of these tests have left.
func (f *fleet) processes(host string) string {
	f.t.Helper()
	return f.sh(host, "pgrep --list-full --full '[s]leep 8641' || true")
}
