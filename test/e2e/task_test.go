package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// seedBody is the unchanged example of the program that tasker replaces.
const seedBody = `{
   "identifier":"e7bd91d0-16ad-11e2-892e-0800200c9a66",
   "payload":{
	  "foo":"bar"
   },
   "endpoints":[
	  "loadbalancer-1",
	  "loadbalancer-2"
   ]
}`

func TestSeedBodySucceedsOnBothEndpoints(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		f.startAgent("loadbalancer-1")
		f.startAgent("loadbalancer-2")
		a := f.waitFinished(f.post("ping", seedBody))
		if a.Task.Status != tasker.TaskSucceeded || a.Task.Counts["succeeded"] != 2 {
			t.Fatalf("task is %s with %v, want succeeded twice", a.Task.Status, a.Task.Counts)
		}
		for _, r := range a.Responses {
			var got map[string]string
			if err := json.Unmarshal(r.Result, &got); err != nil || got["foo"] != "bar" {
				t.Errorf("%s answered the ping with %s (%v)", r.Endpoint, r.Result, err)
			}
			if r.ReceivedAt == nil || r.StartedAt == nil || r.FinishedAt == nil {
				t.Errorf("%s has no times: %+v", r.Endpoint, r)
			}
		}
		if again := f.get("ping", "e7bd91d0-16ad-11e2-892e-0800200c9a66"); again.Task.ID != a.Task.ID {
			t.Errorf("the identifier finds another task: %s", again.Task.ID)
		}
		if code := f.call(http.MethodPost, "/ping", seedBody, nil); code != http.StatusOK {
			t.Errorf("the same body again answered %d, want 200", code)
		}
		if code := f.call(http.MethodPost, "/ping", strings.Replace(seedBody, "bar", "baz", 1), nil); code != http.StatusConflict {
			t.Errorf("another body under the same identifier answered %d, want 409", code)
		}
	})
}

func TestStoppedAgentMakesTheTaskIncomplete(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		f.startAgent("loadbalancer-1")
		f.startAgent("loadbalancer-2").stop(t)
		task := f.post("ping", `{"identifier":"half","endpoints":["loadbalancer-1","loadbalancer-2","never-seen"],"receive_timeout":"10s"}`)
		a := f.waitFinished(task)
		if a.Task.Status != tasker.TaskIncomplete {
			t.Fatalf("task is %s, want incomplete: %+v", a.Task.Status, a)
		}
		if r := a.response("loadbalancer-1"); r.Status != tasker.Succeeded {
			t.Errorf("the endpoint that runs is %s", r.Status)
		}
		for _, name := range []string{"loadbalancer-2", "never-seen"} {
			r := a.response(name)
			if r.Status != tasker.Missing || r.Reason == "" {
				t.Errorf("%s is %s, reason %q; want missing and why", name, r.Status, r.Reason)
			}
			if r.FinishedAt.Before(a.Task.ReceiveDeadline) {
				t.Errorf("%s became missing at %s, before the deadline %s", name, r.FinishedAt, a.Task.ReceiveDeadline)
			}
		}
		// After its start the agent does not perform the expired task. A retry reaches only
		// endpoints that did not succeed.
		f.startAgent("loadbalancer-2")
		f.startAgent("never-seen")
		if code := f.call(http.MethodPost, "/ping/half/retry", "", nil); code != http.StatusAccepted {
			t.Fatalf("retry answered %d", code)
		}
		a = f.waitFinished(task)
		if a.Task.Status != tasker.TaskSucceeded {
			t.Fatalf("after the retry the task is %s: %+v", a.Task.Status, a.Responses)
		}
		if n, m := a.response("loadbalancer-1").Attempt, a.response("loadbalancer-2").Attempt; n != 1 || m != 2 {
			t.Errorf("attempts are %d and %d, want 1 and 2", n, m)
		}
	})
}

func TestBroadcastReachesEveryAgent(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		names := []string{"loadbalancer-1", "loadbalancer-2", "web-1"}
		for _, n := range names {
			f.startAgent(n)
		}
		a := f.waitFinished(f.post("ping", `{"identifier":"all","receive_timeout":10}`))
		if a.Task.Status != tasker.TaskSucceeded || len(a.Responses) != len(names) {
			t.Fatalf("task is %s with %v, want succeeded by %d", a.Task.Status, a.Task.Counts, len(names))
		}
	})
}

func TestBroadcastWithoutAgentsIsIncomplete(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		a := f.waitFinished(f.post("update-app", `{"identifier":"unreceived","receive_timeout":1}`))
		if a.Task.Status != tasker.TaskIncomplete || a.Task.Reason != "no subscriber" {
			t.Fatalf("task is %s, reason %q", a.Task.Status, a.Task.Reason)
		}
	})
}

func TestCancelLeavesNoProcess(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		f.startAgent("loadbalancer-1")
		task := f.post("command", `{"identifier":"long","endpoints":["loadbalancer-1"],"payload":{"argv":["/bin/sh","-c","setsid sleep 3600 & trap '' TERM; sleep 3600; sleep 3600"]}}`)
		wait.For(t, "both sleeps to run", func() bool { return len(processesOf(t, task.ID)) >= 3 })
		if code := f.call(http.MethodPost, "/command/long/cancel", "", nil); code != http.StatusAccepted {
			t.Fatalf("cancel answered %d", code)
		}
		a := f.waitFinished(task)
		if left := processesOf(t, task.ID); len(left) > 0 {
			t.Errorf("the task was cancelled while %v was running", left)
		}
		if a.Task.Status != tasker.TaskCancelled || a.response("loadbalancer-1").Status != tasker.Cancelled {
			t.Errorf("task is %s, response %s", a.Task.Status, a.response("loadbalancer-1").Status)
		}
	})
}

func TestKilledAgentReportsInterruptedAfterRestart(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		agent := f.startAgent("loadbalancer-1")
		task := f.post("command", `{"identifier":"cut","endpoints":["loadbalancer-1"],"payload":{"argv":["/bin/sleep","3600"]}}`)
		wait.For(t, "the command to run", func() bool {
			return f.get("command", "cut").response("loadbalancer-1").Status == tasker.Running
		})
		agent.kill(t)
		f.startAgent("loadbalancer-1")
		a := f.waitFinished(task)
		if r := a.response("loadbalancer-1"); r.Status != tasker.Interrupted || a.Task.Status != tasker.TaskFailed {
			t.Errorf("response is %s (%s), task %s; want interrupted and failed", r.Status, r.Reason, a.Task.Status)
		}
		wait.For(t, "no process to be left", func() bool { return len(processesOf(t, task.ID)) == 0 })
	})
}

func TestKilledControlPlaneLosesNothing(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		f.startAgent("loadbalancer-1")
		release := f.hold("perform")
		task := f.post("command", fmt.Sprintf(
			`{"identifier":"over","endpoints":["loadbalancer-1"],"payload":{"argv":["/bin/sh","-c","while [ -e '%s/hold-perform' ]; do sleep 0.02; done; echo done"]}}`, f.dir))
		wait.For(t, "the command to run", func() bool {
			return f.get("command", "over").response("loadbalancer-1").Status == tasker.Running
		})
		f.cp.kill(t)
		release()
		wait.For(t, "the command to end meanwhile", func() bool { return len(processesOf(t, task.ID)) == 0 })
		f.startControlPlane()
		if a := f.waitFinished(task); a.Task.Status != tasker.TaskSucceeded {
			t.Errorf("task is %s: %+v", a.Task.Status, a.Responses)
		}
	})
}

func TestScriptReportsProgressOutputAndResult(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		f.script("update-app", "#!/bin/sh\ncat\necho\necho updating $TASKER_ENDPOINT for $TASKER_IDENTIFIER >&2\nexit 3\n")
		f.startAgent("loadbalancer-1")
		a := f.waitFinished(f.post("update-app", `{"identifier":"v2","endpoints":["loadbalancer-1"],"payload":{"version":"2.0"}}`))
		r := a.response("loadbalancer-1")
		if r.Status != tasker.Failed || r.ExitCode == nil || *r.ExitCode != 3 || !strings.Contains(r.Error, "updating") {
			t.Errorf("response is %+v, want failed with exit code 3 and the last line of stderr", r)
		}
	})
}

func TestEndpointConnectsAndDisconnects(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		began := time.Now()
		agent := f.startAgent("loadbalancer-1")
		t.Logf("listed after %s", time.Since(began))
		e := f.endpoint("loadbalancer-1")
		if e.Labels["role"] != "loadbalancer" || len(e.Types) != 3 {
			t.Errorf("endpoint is %+v, want its label and ping, facts and command", e)
		}
		agent.stop(t)
		wait.For(t, "the endpoint to be disconnected", func() bool { return !f.endpoint("loadbalancer-1").Connected })
	})
}
