package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

// The second of two exclusive rollouts with a common endpoint reports what it waits for, and
// begins when the first one has ended. A rollout on other endpoints does not wait.
func TestExclusiveRolloutsDoNotOverlap(t *testing.T) {
	t.Parallel()
	withRolloutFleet(t, func(t *testing.T, f *fleet, done ledger) {
		release := f.hold("perform")
		first := f.post("update-app", `{"identifier":"first","endpoints":["web-1","web-2"],"rollout":{"batch":1,"exclusive":true}}`)
		done.waitStarts(t, first, 1)
		second := f.post("update-app", `{"identifier":"second","endpoints":["web-2","web-3"],"rollout":{"exclusive":true}}`)
		f.waitBlocked(second, "update-app first", "web-2")
		other := f.post("update-app", `{"identifier":"other","endpoints":["web-4"],"rollout":{"exclusive":true}}`)
		done.waitStarts(t, other, 1)
		if n := done.starts(t, second); n > 0 {
			t.Errorf("the second one was started %d times before the first one has ended", n)
		}
		release()
		for _, task := range []tasker.Task{first, second, other} {
			if a := f.waitFinished(task); a.Task.Status != tasker.TaskSucceeded {
				t.Errorf("%s is %s", task.Identifier, a.Task.Status)
			}
		}
		done.checkSequence(t, first.ID, second.ID)
	})
}

func TestExclusiveRolloutWaitsForARollback(t *testing.T) {
	t.Parallel()
	withRolloutFleet(t, func(t *testing.T, f *fleet, done ledger) {
		f.write("bad", "web-1\n")
		release := f.hold("undo")
		first := f.post("update-app", `{"identifier":"first","endpoints":["web-1"],"rollout":{"on_failure":"rollback","exclusive":true}}`)
		undo := tasker.Task{Type: first.Type, Identifier: "undo", ID: f.waitRollout(first, tasker.RolloutStopped).Task.Rollout.Rollback}
		done.waitStarts(t, undo, 1)
		f.write("bad", "")
		second := f.post("update-app", `{"identifier":"second","endpoints":["web-1"],"rollout":{"exclusive":true}}`)
		f.waitBlocked(second, "until the undo of update-app first has finished", "web-1")
		release()
		if a := f.waitFinished(second); a.Task.Status != tasker.TaskSucceeded {
			t.Errorf("the second one is %s", a.Task.Status)
		}
		done.checkSequence(t, undo.ID, second.ID)
	})
}

// waitBlocked waits until a rollout waits, with a reason that contains the words.
func (f *fleet) waitBlocked(task tasker.Task, words ...string) {
	f.t.Helper()
	wait.For(f.t, fmt.Sprintf("%s to wait for %v", task.Identifier, words), func() bool {
		r := f.get(task.Type, task.ID).Task.Rollout
		return r.State == tasker.RolloutWaiting && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(r.Reason, w) })
	})
}

// checkSequence checks that the second task began after the end of the first one.
func (l ledger) checkSequence(t *testing.T, first, second string) {
	t.Helper()
	lines, begun := l.lines(t), false
	for _, line := range lines {
		if begun = begun || strings.Contains(line, second); begun && strings.Contains(line, first) {
			t.Errorf("%s begins before the end of %s:\n%s", second, first, strings.Join(lines, "\n"))
		}
	}
}
