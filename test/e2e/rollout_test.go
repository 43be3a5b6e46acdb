package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// withRolloutFleet runs a test on each backend, with the agents web-1 to web-4 and
// the script of newWaveScript.
func withRolloutFleet(t *testing.T, test func(t *testing.T, f *fleet, done ledger)) {
	t.Helper()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		done := newWaveScript(f)
		f.startAgents(4)
		test(t, f, done)
	})
}

// waitStarts waits until the ledger has n starts of a task.
func (l ledger) waitStarts(t *testing.T, task tasker.Task, n int) {
	t.Helper()
	wait.For(t, fmt.Sprintf("%d starts of %s", n, task.Identifier), func() bool {
		return l.starts(t, task) >= n
	})
}

// starts returns how often a task was started.
func (l ledger) starts(t *testing.T, task tasker.Task) int {
	t.Helper()
	n := 0
	for _, line := range l.lines(t) {
		if strings.HasPrefix(line, "began "+task.ID) {
			n++
		}
	}
	return n
}

func TestNothingStartsBeforeNotBefore(t *testing.T) {
	t.Parallel()
	withRolloutFleet(t, func(t *testing.T, f *fleet, done ledger) {
		at := time.Now().Add(8 * time.Second)
		var tasks []tasker.Task
		for i, further := range []string{"", `,"rollout":{` + threeWaves + `}`} {
			tasks = append(tasks, f.post("update-app", fmt.Sprintf(`{"identifier":"%d",%s,"not_before":%q%s}`, i, fourEndpoints, at.Format(time.RFC3339Nano), further)))
		}
		if r := tasks[1].Rollout; r.State != tasker.RolloutScheduled {
			t.Errorf("the rollout is %s", r.State)
		}
		wait.For(t, "the first start", func() bool {
			lines := done.lines(t)
			if len(lines) > 0 && time.Now().Before(at) {
				t.Errorf("done before not_before: %v", lines)
			}
			return len(lines) > 0
		})
		for _, task := range tasks {
			if a := f.waitFinished(task); a.Task.Status != tasker.TaskSucceeded || a.Task.NotBefore == nil || at.Sub(*a.Task.NotBefore).Abs() > time.Microsecond {
				t.Errorf("task %s is %s: %+v", task.Identifier, a.Task.Status, a.Task)
			}
		}
		done.checkWaves(t, tasks[1].ID, 1, waves()...)
	})
}

// A dry run changes nothing, and reports the changes and their waves.
func TestDryRunReportsChanges(t *testing.T) {
	t.Parallel()
	withRolloutFleet(t, func(t *testing.T, f *fleet, done ledger) {
		task := f.post("update-app", `{"identifier":"x",`+fourEndpoints+`,"dry_run":true,"rollout":{`+threeWaves+`}}`)
		a := f.waitFinished(task)
		r := a.Task.Rollout
		if a.Task.Status != tasker.TaskSucceeded || a.Task.Action != tasker.DryRun || r.State != tasker.RolloutPlanned || !slices.Equal(r.Waves, []int{1, 2, 1}) {
			t.Errorf("task is %s, %s, its rollout %+v", a.Task.Status, a.Task.Action, r)
		}
		for i, wave := range waves() {
			for _, name := range wave {
				var result struct {
					Plan  bool
					Would string
				}
				r := a.response(name)
				if err := json.Unmarshal(r.Result, &result); err != nil || !result.Plan || result.Would != "update "+name || r.Wave != i+1 {
					t.Errorf("%s of wave %d reports %s (%v)", name, r.Wave, r.Result, err)
				}
			}
		}
		if lines := done.lines(t); len(lines) > 0 {
			t.Errorf("the dry run has done %v", lines)
		}
	})
}

// A retry of a stopped rollout covers the endpoints that did not succeed, in waves.
func TestStoppedRolloutIsRetriedInWaves(t *testing.T) {
	t.Parallel()
	withRolloutFleet(t, func(t *testing.T, f *fleet, done ledger) {
		f.write("bad", "web-2\nweb-3\n")
		task := f.post("update-app", `{"identifier":"x",`+fourEndpoints+`,"rollout":{`+threeWaves+`}}`)
		a := f.waitRollout(task, tasker.RolloutStopped)
		a = f.waitFinished(a.Task)
		if r := a.response("web-4"); a.Task.Status != tasker.TaskFailed || r.Status != tasker.Skipped || r.Reason != a.Task.Rollout.Reason || !strings.Contains(r.Reason, "of 4 failed") {
			t.Errorf("task is %s, its rollout %+v, web-4 %s (%s)", a.Task.Status, a.Task.Rollout, r.Status, r.Reason)
		}
		f.write("bad", "")
		f.mustControl(task, "retry")
		a = f.waitRollout(task, tasker.RolloutFinished)
		if r := a.Task.Rollout; a.Task.Status != tasker.TaskSucceeded || !slices.Equal(r.Waves, []int{1, 2}) {
			t.Errorf("after the retry task is %s, its rollout %+v", a.Task.Status, r)
		}
		done.checkWaves(t, task.ID, 1, waves()[:2]...)
		done.checkWaves(t, task.ID, 2, []string{"web-2"}, []string{"web-3", "web-4"})
	})
}

// A cancel ends responses that have not started at once, and the others when their agents
// report it.
func TestCancelDuringWave(t *testing.T) {
	t.Parallel()
	withRolloutFleet(t, func(t *testing.T, f *fleet, done ledger) {
		f.hold("perform")
		task := f.post("update-app", `{"identifier":"x",`+fourEndpoints+`,"rollout":{"batch":2}}`)
		done.waitStarts(t, task, 2)
		f.mustControl(task, "cancel")
		a := f.get("update-app", "x")
		for _, name := range []string{"web-3", "web-4"} {
			if r := a.response(name); r.Status != tasker.Cancelled || r.Reason == "" {
				t.Errorf("%s, which has not started, is %s (%s)", name, r.Status, r.Reason)
			}
		}
		a = f.waitRollout(task, tasker.RolloutCancelled)
		if a.Task.Status != tasker.TaskCancelled || a.Task.Counts[tasker.Cancelled] != 4 {
			t.Errorf("task is %s with %v", a.Task.Status, a.Task.Counts)
		}
		if n := done.starts(t, task); n != 2 {
			t.Errorf("%d were started, want 2", n)
		}
		if left := processesOf(t, task.ID); len(left) > 0 {
			t.Errorf("left running: %v", left)
		}
	})
}

// A gate that fails pauses a rollout with a reason. After a resume the gate is evaluated
// again.
func TestFailingGatePausesRollout(t *testing.T) {
	t.Parallel()
	withRolloutFleet(t, func(t *testing.T, f *fleet, done ledger) {
		g := newGate(t)
		g.status.Store(http.StatusServiceUnavailable)
		task := f.post("update-app", fmt.Sprintf(`{"identifier":"x",%s,"rollout":{%s,"gate":{"url":%q}}}`, fourEndpoints, threeWaves, g.url))
		for requests := range int64(2) {
			wait.For(t, "a request to the gate and a paused rollout", func() bool {
				return g.requests.Load() == requests+1 && f.get("update-app", "x").Task.Rollout.State == tasker.RolloutPaused
			})
			a := f.get("update-app", "x")
			if r := a.Task.Rollout; a.Task.Status != tasker.TaskPaused || !strings.Contains(r.Reason, "503") || r.Wave != 1 {
				t.Errorf("task is %s, its rollout in wave %d %s (%s)", a.Task.Status, r.Wave, r.State, r.Reason)
			}
			if n := done.starts(t, task); n != 1 {
				t.Errorf("%d were started, want the canary only", n)
			}
			if requests == 1 {
				g.status.Store(http.StatusNoContent)
			}
			f.mustControl(task, "resume")
		}
		a := f.waitRollout(task, tasker.RolloutFinished)
		if len(a.Controls) != 2 || g.requests.Load() != 4 {
			t.Errorf("controls: %+v; %d requests to the gate, want 4", a.Controls, g.requests.Load())
		}
		done.checkWaves(t, task.ID, 1, waves()...)
	})
}

func TestGatesAndCallbacksHaveSeparateAllowLists(t *testing.T) {
	t.Parallel()
	b := backends()["http+sqlite"](t)
	b.controlplane += "gates: {allow: [\"http://gates.example\"]}\ncallbacks: {allow: [\"http://hooks.example\"]}\n"
	f := newFleet(t, b)
	for name, body := range map[string]string{
		"gates": `"rollout":{"gate":{"url":%q}}`, "hooks": `"callback":%q`,
	} {
		for url, want := range map[string]int{
			"http://" + name + ".example/any": http.StatusCreated, "http://127.0.0.1/": http.StatusUnprocessableEntity, "https://other.example/": http.StatusUnprocessableEntity,
		} {
			whole := fmt.Sprintf(`{"identifier":%q,"endpoints":["web-1"],`+body+`}`, name, url)
			if code := f.call(http.MethodPost, "/ping", whole, nil); code != want {
				t.Errorf("%s answered %d, want %d", whole, code, want)
			}
		}
	}
}

// Endpoints selected by labels follow the named ones. An endpoint that connects later is
// not added.
func TestLabelsAreResolvedOnce(t *testing.T) {
	t.Parallel()
	forEachBackend(t, func(t *testing.T, f *fleet) {
		done := newWaveScript(f)
		f.startAgents(3)
		startProgram(t, "tasker-agent", "run", "--config", f.agentConfig("db-1.yaml", "db-1", f.dir+"/db-1")) // it has no labels
		wait.For(t, "db-1 to be connected", func() bool { return f.endpoint("db-1").Connected })
		release := f.hold("perform")
		const body = `{"identifier":"x","endpoints":["db-1","web-3"],"labels":"role=loadbalancer,zone!=b","rollout":{"canary":1}}`
		task := f.post("update-app", body)
		want := []string{"db-1", "web-3", "web-1", "web-2"}
		if !slices.Equal(task.Endpoints, want) || task.Labels != "role=loadbalancer,zone!=b" {
			t.Errorf("endpoints are %v, labels %q; want %v", task.Endpoints, task.Labels, want)
		}
		done.waitStarts(t, task, 1)
		f.startAgent("web-4")
		if code := f.call(http.MethodPost, "/update-app", body, nil); code != http.StatusOK {
			t.Errorf("the same body again answered %d, want 200", code)
		}
		release()
		if a := f.waitFinished(task); a.Task.Status != tasker.TaskSucceeded || !slices.Equal(a.Task.Endpoints, want) {
			t.Errorf("task is %s for %v", a.Task.Status, a.Task.Endpoints)
		}
		done.checkWaves(t, task.ID, 1, want[:1], want[1:])
	})
}

// Of two control planes, the one that leads a rollout is killed. The other one continues.
func TestSecondControlPlaneContinuesRollout(t *testing.T) {
	t.Parallel()
	first := newFleet(t, backends()["rabbitmq+mysql"](t))
	done := newWaveScript(first)
	second := first.startSecondControlPlane()
	first.startAgents(4)
	release := first.hold("perform")
	task := first.post("update-app", `{"identifier":"x",`+fourEndpoints+`,"rollout":{`+threeWaves+`}}`)
	done.waitStarts(t, task, 1)
	leads := func(f *fleet) bool { return strings.Contains(f.cp.log.String(), "rollout advances") }
	wait.For(t, "one of the two to lead the rollout", func() bool { return leads(first) || leads(second) })
	leader, other := first, second
	if leads(second) {
		leader, other = second, first
	}
	if leads(other) {
		t.Fatal("both have led the rollout")
	}
	leader.cp.kill(t)
	release()
	a := other.waitRollout(task, tasker.RolloutFinished)
	if a.Task.Status != tasker.TaskSucceeded || !leads(other) {
		t.Errorf("task is %s", a.Task.Status)
	}
	done.checkWaves(t, task.ID, 1, waves()...)
}
