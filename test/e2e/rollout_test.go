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

// onRollouts runs a test on each fabric, with agents web-1 to web-4 and the script
// of newWaves.
func onRollouts(t *testing.T, test func(t *testing.T, f *fleet, done ledger)) {
	t.Helper()
	onEachFabric(t, func(t *testing.T, f *fleet) {
		done := newWaves(f)
		f.startAgents(4)
		test(t, f, done)
	})
}

// began waits until so many starts of a task are in the ledger.
func (l ledger) began(t *testing.T, task tasker.Task, n int) {
	t.Helper()
	wait.For(t, fmt.Sprintf("%d to begin %s", n, task.Identifier), func() bool {
		return l.starts(t, task) >= n
	})
}

// starts is how often a task was started.
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

// The second of two rollouts on a common endpoint says what it waits for, and
// begins when the first one is over; one on other endpoints does not wait.
func TestExclusiveRolloutsDoNotMeet(t *testing.T) {
	t.Parallel()
	onRollouts(t, func(t *testing.T, f *fleet, done ledger) {
		letGo := f.hold("perform")
		first := f.post("update-app", `{"identifier":"first","endpoints":["web-1","web-2"],"rollout":{"batch":1,"exclusive":true}}`)
		done.began(t, first, 1)
		second := f.post("update-app", `{"identifier":"second","endpoints":["web-2","web-3"],"rollout":{"exclusive":true}}`)
		f.waitsFor(second, "update-app first", "web-2")
		other := f.post("update-app", `{"identifier":"other","endpoints":["web-4"],"rollout":{"exclusive":true}}`)
		done.began(t, other, 1)
		if n := done.starts(t, second); n > 0 {
			t.Errorf("the second one was started %d times while the first one is under way", n)
		}
		letGo()
		for _, task := range []tasker.Task{first, second, other} {
			if a := f.ends(task); a.Task.Status != tasker.TaskSucceeded {
				t.Errorf("%s is %s", task.Identifier, a.Task.Status)
			}
		}
		done.follows(t, first.ID, second.ID)
	})
}

// Nor does the second one begin while the first one is undone.
func TestExclusiveRolloutWaitsForARollback(t *testing.T) {
	t.Parallel()
	onRollouts(t, func(t *testing.T, f *fleet, done ledger) {
		f.write("bad", "web-1\n")
		letGo := f.hold("undo")
		first := f.post("update-app", `{"identifier":"first","endpoints":["web-1"],"rollout":{"on_failure":"rollback","exclusive":true}}`)
		undo := tasker.Task{Type: first.Type, Identifier: "undo", ID: f.comes(first, tasker.RolloutStopped).Task.Rollout.Rollback}
		done.began(t, undo, 1)
		f.write("bad", "")
		second := f.post("update-app", `{"identifier":"second","endpoints":["web-1"],"rollout":{"exclusive":true}}`)
		f.waitsFor(second, "until update-app first is undone", "web-1")
		letGo()
		if a := f.ends(second); a.Task.Status != tasker.TaskSucceeded {
			t.Errorf("the second one is %s", a.Task.Status)
		}
		done.follows(t, undo.ID, second.ID)
	})
}

// waitsFor waits until a rollout says what it waits for.
func (f *fleet) waitsFor(task tasker.Task, words ...string) {
	f.t.Helper()
	wait.For(f.t, fmt.Sprintf("%s to wait for %v", task.Identifier, words), func() bool {
		r := f.get(task.Type, task.ID).Task.Rollout
		return r.State == tasker.RolloutWaiting && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(r.Reason, w) })
	})
}

// follows holds that nothing of the second task was done before all of the first.
func (l ledger) follows(t *testing.T, first, second string) {
	t.Helper()
	lines, begun := l.lines(t), false
	for _, line := range lines {
		if begun = begun || strings.Contains(line, second); begun && strings.Contains(line, first) {
			t.Errorf("%s begins before the end of %s:\n%s", second, first, strings.Join(lines, "\n"))
		}
	}
}

// Nothing is started before a task's time, in waves or not.
func TestNothingStartsBeforeItsTime(t *testing.T) {
	t.Parallel()
	onRollouts(t, func(t *testing.T, f *fleet, done ledger) {
		at := time.Now().Add(8 * time.Second)
		var tasks []tasker.Task
		for i, further := range []string{"", `,"rollout":{` + inThree + `}`} {
			tasks = append(tasks, f.post("update-app", fmt.Sprintf(`{"identifier":"%d",%s,"not_before":%q%s}`, i, four, at.Format(time.RFC3339Nano), further)))
		}
		if r := tasks[1].Rollout; r.State != tasker.RolloutScheduled {
			t.Errorf("the rollout is %s", r.State)
		}
		wait.For(t, "something to be started", func() bool {
			lines := done.lines(t)
			if len(lines) > 0 && time.Now().Before(at) {
				t.Errorf("before its time it has done %v", lines)
			}
			return len(lines) > 0
		})
		for _, task := range tasks {
			if a := f.ends(task); a.Task.Status != tasker.TaskSucceeded || a.Task.NotBefore == nil || at.Sub(*a.Task.NotBefore).Abs() > time.Microsecond {
				t.Errorf("task %s is %s: %+v", task.Identifier, a.Task.Status, a.Task)
			}
		}
		done.order(t, tasks[1].ID, 1, waves()...)
	})
}

// A dry run starts nothing, and says what would be done and in which waves.
func TestDryRunSaysWhatWouldBeDone(t *testing.T) {
	t.Parallel()
	onRollouts(t, func(t *testing.T, f *fleet, done ledger) {
		task := f.post("update-app", `{"identifier":"x",`+four+`,"dry_run":true,"rollout":{`+inThree+`}}`)
		a := f.ends(task)
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
				r := a.of(name)
				if err := json.Unmarshal(r.Result, &result); err != nil || !result.Plan || result.Would != "update "+name || r.Wave != i+1 {
					t.Errorf("%s of wave %d says %s (%v)", name, r.Wave, r.Result, err)
				}
			}
		}
		if lines := done.lines(t); len(lines) > 0 {
			t.Errorf("it has done %v", lines)
		}
	})
}

// A rollout that has stopped is retried where it did not succeed, in waves again.
func TestStoppedRolloutIsRetriedInWaves(t *testing.T) {
	t.Parallel()
	onRollouts(t, func(t *testing.T, f *fleet, done ledger) {
		f.write("bad", "web-2\nweb-3\n")
		task := f.post("update-app", `{"identifier":"x",`+four+`,"rollout":{`+inThree+`}}`)
		a := f.comes(task, tasker.RolloutStopped)
		a = f.ends(a.Task)
		if r := a.of("web-4"); a.Task.Status != tasker.TaskFailed || r.Status != tasker.Skipped || r.Reason != a.Task.Rollout.Reason || !strings.Contains(r.Reason, "of 4 failed") {
			t.Errorf("task is %s, its rollout %+v, web-4 %s (%s)", a.Task.Status, a.Task.Rollout, r.Status, r.Reason)
		}
		f.write("bad", "")
		f.asks(task, "retry")
		a = f.comes(task, tasker.RolloutFinished)
		if r := a.Task.Rollout; a.Task.Status != tasker.TaskSucceeded || !slices.Equal(r.Waves, []int{1, 2}) {
			t.Errorf("after the retry task is %s, its rollout %+v", a.Task.Status, r)
		}
		done.order(t, task.ID, 1, waves()[:2]...)
		done.order(t, task.ID, 2, []string{"web-2"}, []string{"web-3", "web-4"})
	})
}

// A cancel ends at once what was not begun, and the wave when the agents say so.
func TestCancelInMidWave(t *testing.T) {
	t.Parallel()
	onRollouts(t, func(t *testing.T, f *fleet, done ledger) {
		f.hold("perform")
		task := f.post("update-app", `{"identifier":"x",`+four+`,"rollout":{"batch":2}}`)
		done.began(t, task, 2)
		f.asks(task, "cancel")
		a := f.get("update-app", "x")
		for _, name := range []string{"web-3", "web-4"} {
			if r := a.of(name); r.Status != tasker.Cancelled || r.Reason == "" {
				t.Errorf("%s, which was not begun, is %s (%s)", name, r.Status, r.Reason)
			}
		}
		a = f.comes(task, tasker.RolloutCancelled)
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

// A gate that does not hold pauses a rollout, which says why; whoever resumes it
// has the gate asked anew.
func TestGateKeepsTheNextWave(t *testing.T) {
	t.Parallel()
	onRollouts(t, func(t *testing.T, f *fleet, done ledger) {
		g := newGate(t)
		g.status.Store(http.StatusServiceUnavailable)
		task := f.post("update-app", fmt.Sprintf(`{"identifier":"x",%s,"rollout":{%s,"gate":{"url":%q}}}`, four, inThree, g.url))
		for asked := range int64(2) {
			wait.For(t, "the gate to be asked and the rollout to be paused", func() bool {
				return g.asked.Load() == asked+1 && f.get("update-app", "x").Task.Rollout.State == tasker.RolloutPaused
			})
			a := f.get("update-app", "x")
			if r := a.Task.Rollout; a.Task.Status != tasker.TaskPaused || !strings.Contains(r.Reason, "503") || r.Wave != 1 {
				t.Errorf("task is %s, its rollout in wave %d %s (%s)", a.Task.Status, r.Wave, r.State, r.Reason)
			}
			if n := done.starts(t, task); n != 1 {
				t.Errorf("%d were started, want the canary only", n)
			}
			if asked == 1 {
				g.status.Store(http.StatusNoContent)
			}
			f.asks(task, "resume")
		}
		a := f.comes(task, tasker.RolloutFinished)
		if len(a.Controls) != 2 || g.asked.Load() != 4 {
			t.Errorf("asked for: %+v; the gate was asked %d times, want 4", a.Controls, g.asked.Load())
		}
		done.order(t, task.ID, 1, waves()...)
	})
}

// Which URLs gates and callbacks may name is configured for each of the two.
func TestGatesAndCallbacksAskWhatIsAllowed(t *testing.T) {
	t.Parallel()
	fab := fabrics()["http+sqlite"](t)
	fab.controlplane += "gates: {allow: [\"http://gates.example\"]}\ncallbacks: {allow: [\"http://hooks.example\"]}\n"
	f := newFleet(t, fab)
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

// Endpoints found by labels come after those that are named, and are found once:
// whoever comes later is not among them.
func TestLabelsAreResolvedOnce(t *testing.T) {
	t.Parallel()
	onEachFabric(t, func(t *testing.T, f *fleet) {
		done := newWaves(f)
		f.startAgents(3)
		start(t, "tasker-agent", "run", "--config", f.agentConfig("db-1.yaml", "db-1", f.dir+"/db-1")) // it has no labels
		wait.For(t, "db-1 to be connected", func() bool { return f.endpoint("db-1").Connected })
		letGo := f.hold("perform")
		const body = `{"identifier":"x","endpoints":["db-1","web-3"],"labels":"role=loadbalancer,zone!=b","rollout":{"canary":1}}`
		task := f.post("update-app", body)
		want := []string{"db-1", "web-3", "web-1", "web-2"}
		if !slices.Equal(task.Endpoints, want) || task.Labels != "role=loadbalancer,zone!=b" {
			t.Errorf("it is for %v by %q, want %v", task.Endpoints, task.Labels, want)
		}
		done.began(t, task, 1)
		f.startAgent("web-4")
		if code := f.call(http.MethodPost, "/update-app", body, nil); code != http.StatusOK {
			t.Errorf("the same body again answered %d, want 200", code)
		}
		letGo()
		if a := f.ends(task); a.Task.Status != tasker.TaskSucceeded || !slices.Equal(a.Task.Endpoints, want) {
			t.Errorf("task is %s for %v", a.Task.Status, a.Task.Endpoints)
		}
		done.order(t, task.ID, 1, want[:1], want[1:])
	})
}

// Of two control planes the one that moves a rollout on is killed; the other one
// goes on with it.
func TestAnotherControlPlaneTakesRolloutsOver(t *testing.T) {
	t.Parallel()
	first := newFleet(t, fabrics()["rabbitmq+mysql"](t))
	done := newWaves(first)
	second := first.another()
	first.startAgents(4)
	letGo := first.hold("perform")
	task := first.post("update-app", `{"identifier":"x",`+four+`,"rollout":{`+inThree+`}}`)
	done.began(t, task, 1)
	leads := func(f *fleet) bool { return strings.Contains(f.cp.log.String(), "rollout moves on") }
	wait.For(t, "one of the two to say that it moves the rollout on", func() bool { return leads(first) || leads(second) })
	leader, other := first, second
	if leads(second) {
		leader, other = second, first
	}
	if leads(other) {
		t.Fatal("both have moved the rollout on")
	}
	leader.cp.kill(t)
	letGo()
	a := other.comes(task, tasker.RolloutFinished)
	if a.Task.Status != tasker.TaskSucceeded || !leads(other) {
		t.Errorf("task is %s", a.Task.Status)
	}
	done.order(t, task.ID, 1, waves()...)
}
