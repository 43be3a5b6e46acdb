package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// The control plane is killed after each commit in turn. The rollout continues in its waves,
// and nothing is done twice.
func TestRolloutSurvivesKillsAtEachStep(t *testing.T) {
	t.Parallel()
	killTest{every: 1, least: 15, backend: "http+sqlite"}.run(t, func(f *fleet, done ledger, a answer) {
		if a.Task.Status != tasker.TaskSucceeded || a.Task.Rollout.State != tasker.RolloutFinished {
			f.t.Errorf("task is %s, its rollout %s (%s)", a.Task.Status, a.Task.Rollout.State, a.Task.Rollout.Reason)
		}
		done.checkWaves(f.t, a.Task.ID, 1, waves()...)
	})
}

func TestRolloutOnMySQLSurvivesKills(t *testing.T) {
	t.Parallel()
	killTest{every: 5, least: 3, backend: "rabbitmq+mysql"}.run(t, func(f *fleet, done ledger, a answer) {
		if a.Task.Status != tasker.TaskSucceeded || a.Task.Rollout.State != tasker.RolloutFinished {
			f.t.Errorf("task is %s, its rollout %s (%s)", a.Task.Status, a.Task.Rollout.State, a.Task.Rollout.Reason)
		}
		done.checkWaves(f.t, a.Task.ID, 1, waves()...)
	})
}

func TestPausedRolloutSurvivesKills(t *testing.T) {
	t.Parallel()
	k := killTest{every: 3, least: 4, backend: "http+sqlite", spec: `,"pause_after_canary":true`}
	k.run(t, func(f *fleet, done ledger, a answer) {
		if a.Task.Status != tasker.TaskSucceeded || a.Task.Rollout.State != tasker.RolloutFinished {
			f.t.Errorf("task is %s, its rollout %s (%s)", a.Task.Status, a.Task.Rollout.State, a.Task.Rollout.Reason)
		}
		if len(a.Controls) != 1 || a.Controls[0].Action != "resume" {
			f.t.Errorf("controls: %+v, want one resume", a.Controls)
		}
		done.checkWaves(f.t, a.Task.ID, 1, waves()...)
	})
}

// The changes of a bad version are undone once, and only on the endpoints with changes.
func TestRollbackSurvivesKills(t *testing.T) {
	t.Parallel()
	k := killTest{every: 2, least: 8, backend: "http+sqlite", spec: `,"on_failure":"rollback"`, bad: "web-2\n"}
	k.run(t, func(f *fleet, done ledger, a answer) {
		if a.Task.Status != tasker.TaskFailed || a.Task.Rollout.State != tasker.RolloutStopped {
			f.t.Errorf("task is %s, its rollout %s (%s)", a.Task.Status, a.Task.Rollout.State, a.Task.Rollout.Reason)
		}
		if r := a.response("web-4"); r.Status != tasker.Skipped || r.Reason == "" {
			f.t.Errorf("web-4 is %s (%s), want skipped and why", r.Status, r.Reason)
		}
		done.checkWaves(f.t, a.Task.ID, 1, waves()[:2]...)
		undo := f.get(a.Task.Type, a.Task.Rollout.Rollback).Task
		if undo.Status != tasker.TaskSucceeded || undo.Undoes != a.Task.ID || undo.Action != tasker.Undo {
			f.t.Errorf("the undo task is %s, %s of %s", undo.Status, undo.Action, undo.Undoes)
		}
		done.checkWaves(f.t, undo.ID, 1, slices.Concat(waves()[:2]...))
		var all struct{ Tasks []tasker.Task }
		if f.call(http.MethodGet, "/"+a.Task.Type, "", &all); len(all.Tasks) != 2 {
			f.t.Errorf("there are %d tasks, want the rollout and its undo task: %+v", len(all.Tasks), all.Tasks)
		}
	})
}

// killTest is a rollout that is repeated with a kill of the control plane at another moment
// each time.
type killTest struct {
	backend string
	// every is the distance between the versions at which the control plane is killed, least
	// the least number of kills.
	every, least int64
	// spec is added to the rollout; bad lists the endpoints that fail.
	spec, bad string
}

// run performs the rollout with a kill at one version after the other, until the rollout
// ends before the kill. Each commit that changes a task increases its version. Six rollouts
// run in parallel, because each waits for the lease of the killed control plane.
func (k killTest) run(t *testing.T, check func(f *fleet, done ledger, a answer)) {
	t.Helper()
	const parallel = 6
	var next, at atomic.Int64
	var over atomic.Bool
	var workers sync.WaitGroup
	for range parallel {
		workers.Go(func() {
			for !over.Load() && !t.Failed() {
				version := 1 + k.every*(next.Add(1)-1)
				t.Run(fmt.Sprintf("version %d", version), func(t *testing.T) {
					f := newFleet(t, backends()[k.backend](t))
					done := newWaveScript(f)
					f.write("bad", k.bad)
					f.startAgents(4)
					g := newGate(t)
					task := f.post("update-app", fmt.Sprintf(
						`{"identifier":"x",%s,"rollout":{%s,"pause_between":"200ms","gate":{"url":%q,"for":"200ms"}%s}}`, fourEndpoints, threeWaves, g.url, k.spec))
					a, killed := f.driveRollout(task, version)
					if check(f, done, a); !killed {
						over.Store(true)
						return
					}
					at.Add(1)
				})
			}
		})
	}
	workers.Wait()
	if n := at.Load(); n < k.least {
		t.Errorf("the control plane was killed in %d rollouts, want %d at least", n, k.least)
	}
}

// driveRollout resumes a rollout whenever it is paused, until the rollout and its undo task have
// ended. When their versions add up to version, it kills and restarts the control plane.
func (f *fleet) driveRollout(task tasker.Task, version int64) (a answer, killed bool) {
	f.t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); {
		a = f.get(task.Type, task.ID)
		r, seen, open := a.Task.Rollout, a.Task.Version, a.Task.FinishedAt == nil
		if r.Rollback != "" {
			undo := f.get(task.Type, r.Rollback).Task
			seen, open = seen+undo.Version, undo.FinishedAt == nil
		}
		switch {
		case !killed && seen >= version:
			f.cp.kill(f.t)
			f.t.Logf("killed at version %d, %s in wave %d, with %v", seen, r.State, r.Wave, a.Task.Counts)
			f.startControlPlane()
			killed = true
		case r.State == tasker.RolloutPaused:
			f.mustControl(task, "resume")
		case r.State.Ended() && !open:
			return a, killed
		}
		time.Sleep(2 * time.Millisecond) //nolint:forbidigo // a short poll interval, to see each version
	}
	f.t.Fatalf("the rollout does not end: it is %s (%s) with %v", a.Task.Rollout.State, a.Task.Rollout.Reason, a.Task.Counts)
	return a, killed
}
