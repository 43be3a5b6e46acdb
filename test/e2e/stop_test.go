package e2e

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// A stopped agent finishes running tasks and performs the others after its next start.
func TestStoppedAgentFinishesRunningTasksAndKeepsOthers(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		done := newSleepScript(f)
		agent := f.startAgent("web-1")
		release := f.hold("perform")
		var tasks []tasker.Task
		for i := range 12 {
			tasks = append(tasks, f.post("update-app", fmt.Sprintf(`{"identifier":"%d","endpoints":["web-1"],"payload":0}`, i)))
		}
		for _, task := range tasks[8:] {
			f.waitStatus(task, "web-1", tasker.Received)
		}
		wait.For(t, "eight starts", func() bool { return len(done.count(t)) >= 8 })
		agent.signal(t, syscall.SIGINT)
		wait.For(t, "the agent to begin to stop", func() bool { return strings.Contains(agent.log.String(), "agent is stopping") })
		release()
		<-agent.done
		if code := agent.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("exit code %d:\n%s", code, agent.log)
		}
		wait.For(t, "the endpoint to be disconnected", func() bool { return !f.endpoint("web-1").Connected })
		for i, task := range tasks {
			want := tasker.Succeeded
			if i >= 8 {
				want = tasker.Received
			}
			if r := f.get(task.Type, task.ID).response("web-1"); r.Status != want {
				t.Errorf("after the stop task %d is %s (%s), want %s", i, r.Status, r.Reason, want)
			}
		}
		f.startAgent("web-1")
		for _, task := range tasks {
			a := f.waitFinished(task)
			if a.Task.Status != tasker.TaskSucceeded {
				t.Errorf("task %s is %s: %+v", task.Identifier, a.Task.Status, a.Responses)
			}
			done.check(t, a)
		}
	})
}

// A task that does not end within stop_timeout is ended and reported, and no process is left.
func TestStopTimeoutEndsRunningTasks(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		newSleepScript(f)
		agent := f.startAgent("web-1", "stop_timeout: 1s")
		task := f.post("update-app", `{"identifier":"endless","endpoints":["web-1"],"payload":600}`)
		wait.For(t, "the script to sleep", func() bool { return len(processesOf(t, task.ID)) >= 2 })
		agent.stop(t)
		if code := agent.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("exit code %d:\n%s", code, agent.log)
		}
		if left := processesOf(t, task.ID); len(left) > 0 {
			t.Errorf("left running: %v", left)
		}
		a := f.waitFinished(task)
		if r := a.response("web-1"); r.Status != tasker.Interrupted || !strings.Contains(r.Reason, "stop") {
			t.Errorf("response is %s (%s)", r.Status, r.Reason)
		}
	})
}

// A control plane stops quickly despite open event streams, and sends them no false event.
func TestControlPlaneStopsWithOpenStreams(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		newSleepScript(f)
		f.startAgent("web-1")
		f.startAgent("web-2")
		release := f.hold("perform")
		task := f.post("update-app", `{"identifier":"watched","endpoints":["web-1","web-2"],"payload":0}`)
		ended := make(chan string, 3)
		for range cap(ended) {
			resp, err := http.Get("http://" + f.api + "/update-app/watched/events") //nolint:noctx // ended by the control plane
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				defer resp.Body.Close()
				last := ""
				for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
					if strings.HasPrefix(lines.Text(), "data:") {
						last = lines.Text()
					}
				}
				ended <- last
			}()
		}
		f.waitStatus(task, "web-1", tasker.Running)
		began := time.Now()
		f.cp.stop(t)
		t.Logf("stopped after %s", time.Since(began))
		if code := f.cp.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("exit code %d:\n%s", code, f.cp.log)
		}
		for range cap(ended) {
			if last := <-ended; strings.Contains(last, `"status":"failed"`) || strings.Contains(last, `"status":"succeeded"`) {
				t.Errorf("a stream ended with %s", last)
			}
		}
		release()
		f.startControlPlane()
		if a := f.waitFinished(task); a.Task.Status != tasker.TaskSucceeded {
			t.Errorf("task is %s: %+v", a.Task.Status, a.Responses)
		}
	})
}

// Stopped programs leave no process, and new ones can use the same directories.
func TestStopLeavesNoLock(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		for _, sign := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
			agent := f.startAgent("web-1")
			a := f.waitFinished(f.post("ping", fmt.Sprintf(`{"identifier":%q,"endpoints":["web-1"]}`, sign)))
			if a.Task.Status != tasker.TaskSucceeded {
				t.Errorf("task is %s: %+v", a.Task.Status, a.Responses)
			}
			for _, p := range []*process{f.cp, agent} {
				p.signal(t, sign)
			}
			for _, p := range []*process{f.cp, agent} {
				<-p.done
				if code := p.cmd.ProcessState.ExitCode(); code != 0 {
					t.Errorf("after %s, %s exits with %d:\n%s", sign, p.cmd.Path, code, p.log)
				}
			}
			if left := processesWith(t, f.dir); len(left) > 0 {
				t.Errorf("still running: %v", left)
			}
			f.startControlPlane()
		}
	})
}
