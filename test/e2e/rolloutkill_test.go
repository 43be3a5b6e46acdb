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

// A control plane that is killed after any commit leaves a rollout that goes on as
// if nothing had been: in its waves, with nothing done twice.
func TestRolloutSurvivesKillsAtEachStep(t *testing.T) {
	t.Parallel()
	kills{every: 1, least: 15, fabric: "http+sqlite"}.walk(t, func(f *fleet, done ledger, a answer) {
		if a.Task.Status != tasker.TaskSucceeded || a.Task.Rollout.State != tasker.RolloutFinished {
			f.t.Errorf("task is %s, its rollout %s (%s)", a.Task.Status, a.Task.Rollout.State, a.Task.Rollout.Reason)
		}
		done.order(f.t, a.Task.ID, 1, waves()...)
	})
}

func TestRolloutOnMySQLSurvivesKills(t *testing.T) {
	t.Parallel()
	kills{every: 5, least: 3, fabric: "rabbitmq+mysql"}.walk(t, func(f *fleet, done ledger, a answer) {
		if a.Task.Status != tasker.TaskSucceeded || a.Task.Rollout.State != tasker.RolloutFinished {
			f.t.Errorf("task is %s, its rollout %s (%s)", a.Task.Status, a.Task.Rollout.State, a.Task.Rollout.Reason)
		}
		done.order(f.t, a.Task.ID, 1, waves()...)
	})
}

// So is one that waits for a person: what it was paused for is not forgotten.
func TestPausedRolloutSurvivesKills(t *testing.T) {
	t.Parallel()
	k := kills{every: 3, least: 4, fabric: "http+sqlite", spec: `,"pause_after_canary":true`}
	k.walk(t, func(f *fleet, done ledger, a answer) {
		if a.Task.Status != tasker.TaskSucceeded || a.Task.Rollout.State != tasker.RolloutFinished {
			f.t.Errorf("task is %s, its rollout %s (%s)", a.Task.Status, a.Task.Rollout.State, a.Task.Rollout.Reason)
		}
		if len(a.Controls) != 1 || a.Controls[0].Action != "resume" {
			f.t.Errorf("asked for: %+v, want to be resumed once", a.Controls)
		}
		done.order(f.t, a.Task.ID, 1, waves()...)
	})
}

// What a bad version has changed is undone once, where it was changed, and nowhere
// else.
func TestRollbackSurvivesKills(t *testing.T) {
	t.Parallel()
	k := kills{every: 2, least: 8, fabric: "http+sqlite", spec: `,"on_failure":"rollback"`, bad: "web-2\n"}
	k.walk(t, func(f *fleet, done ledger, a answer) {
		if a.Task.Status != tasker.TaskFailed || a.Task.Rollout.State != tasker.RolloutStopped {
			f.t.Errorf("task is %s, its rollout %s (%s)", a.Task.Status, a.Task.Rollout.State, a.Task.Rollout.Reason)
		}
		if r := a.of("web-4"); r.Status != tasker.Skipped || r.Reason == "" {
			f.t.Errorf("web-4 is %s (%s), want skipped and why", r.Status, r.Reason)
		}
		done.order(f.t, a.Task.ID, 1, waves()[:2]...)
		undo := f.get(a.Task.Type, a.Task.Rollout.Rollback).Task
		if undo.Status != tasker.TaskSucceeded || undo.Undoes != a.Task.ID || undo.Action != tasker.Undo {
			f.t.Errorf("what undoes is %s, %s of %s", undo.Status, undo.Action, undo.Undoes)
		}
		done.order(f.t, undo.ID, 1, slices.Concat(waves()[:2]...))
		var all struct{ Tasks []tasker.Task }
		if f.call(http.MethodGet, "/"+a.Task.Type, "", &all); len(all.Tasks) != 2 {
			f.t.Errorf("there are %d tasks, want the rollout and what undoes it: %+v", len(all.Tasks), all.Tasks)
		}
	})
}

// kills is a rollout whose control plane is killed.
type kills struct {
	fabric string
	// every: at every so manieth version, of which there must be so many at least.
	every, least int64
	// spec is added to the rollout; bad are the endpoints that fail.
	spec, bad string
}

// walk performs the rollout once for each version at which the control plane can be
// killed, until it ends before: each commit that changes a task makes a version of
// it. Some at a time, as each waits for the lease of the one that was killed.
func (k kills) walk(t *testing.T, check func(f *fleet, done ledger, a answer)) {
	t.Helper()
	const together = 6
	var next, at atomic.Int64
	var over atomic.Bool
	var walkers sync.WaitGroup
	for range together {
		walkers.Go(func() {
			for !over.Load() && !t.Failed() {
				version := 1 + k.every*(next.Add(1)-1)
				t.Run(fmt.Sprintf("version %d", version), func(t *testing.T) {
					f := newFleet(t, fabrics()[k.fabric](t))
					done := newWaves(f)
					f.write("bad", k.bad)
					f.startAgents(4)
					g := newGate(t)
					task := f.post("update-app", fmt.Sprintf(
						`{"identifier":"x",%s,"rollout":{%s,"pause_between":"200ms","gate":{"url":%q,"for":"200ms"}%s}}`, four, inThree, g.url, k.spec))
					a, killed := f.goesOn(task, version)
					if check(f, done, a); !killed {
						over.Store(true)
						return
					}
					at.Add(1)
				})
			}
		})
	}
	walkers.Wait()
	if n := at.Load(); n < k.least {
		t.Errorf("the control plane was killed in %d rollouts, want %d at least", n, k.least)
	}
}

// goesOn follows a rollout, and resumes it when it is paused, until nothing of it or
// of what undoes it is left to do. As soon as both together have come to a version,
// the control plane is killed, and started again.
func (f *fleet) goesOn(task tasker.Task, version int64) (a answer, killed bool) {
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
			f.asks(task, "resume")
		case r.State.Ended() && !open:
			return a, killed
		}
		time.Sleep(2 * time.Millisecond) //nolint:forbidigo // the pause of a polling loop, short to see each version
	}
	f.t.Fatalf("the rollout does not end: it is %s (%s) with %v", a.Task.Rollout.State, a.Task.Rollout.Reason, a.Task.Counts)
	return a, killed
}
