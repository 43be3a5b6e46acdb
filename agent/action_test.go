package agent_test

import (
	"context"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// The handlers support dry runs and undo, or neither.
func TestActions(t *testing.T) {
	t.Parallel()
	returnAction := func(_ context.Context, c handlers.Call) (handlers.Result, error) {
		return handlers.Result{Value: string(c.Action) + ":" + c.Undoes}, nil
	}
	able := handler{info: handlers.Info{Name: "able", CanDryRun: true, CanUndo: true}, handle: returnAction}
	plain := handlerFunc("plain", func(_ context.Context, c handlers.Call) (handlers.Result, error) {
		if c.Action != tasker.Perform {
			panic("called for " + c.Action)
		}
		return handlers.Result{}, nil
	})
	order := func(cp *controlPlane, id, handler string, action tasker.Action) tasker.Order {
		o := assign(cp, id, handler)
		o.Version, o.Assignment.Action = tasker.ActionVersion, action
		if action == tasker.Undo {
			o.Assignment.Undoes = "earlier"
		}
		return o
	}
	r := startAgent(t, newControlPlane(), t.TempDir(), []handlers.Handler{able, plain})
	badUndo := order(r.controlPlane, "bad-undo", "able", tasker.Undo)
	badUndo.Assignment.Undoes = "../../etc"
	r.deliver(
		badUndo,
		order(r.controlPlane, "able-dry-run", "able", tasker.DryRun), order(r.controlPlane, "able-undo", "able", tasker.Undo),
		order(r.controlPlane, "plain-dry-run", "plain", tasker.DryRun), order(r.controlPlane, "plain-undo", "plain", tasker.Undo),
		order(r.controlPlane, "plain-do", "plain", tasker.Perform), order(r.controlPlane, "able-dance", "able", "dance"),
	)
	for id, want := range map[string]struct {
		status         tasker.ResponseStatus
		result, reason string
	}{
		"able-dry-run":  {tasker.Succeeded, `"plan:"`, ""},
		"able-undo":     {tasker.Succeeded, `"undo:earlier"`, ""},
		"plain-dry-run": {tasker.Succeeded, "", "has no dry run"},
		"plain-undo":    {tasker.Rejected, "", "cannot undo"},
		"plain-do":      {tasker.Succeeded, "", ""},
		"able-dance":    {tasker.Rejected, "", "update the agent"},
		"bad-undo":      {tasker.Rejected, "", "to undo is not valid"},
	} {
		got := r.waitEnded(t, id)
		if got.Status != want.status || string(got.Result) != want.result || !strings.Contains(got.Reason, want.reason) || (want.reason == "") != (got.Reason == "") {
			t.Errorf("%s: %s, result %s, reason %q; want %+v", id, got.Status, got.Result, got.Reason, want)
		}
	}
}

// The agent is stopped while a handler undoes. The next agent repeats the action.
func TestActionIsKeptAcrossRestart(t *testing.T) {
	t.Parallel()
	calls := make(chan handlers.Call, 2)
	hs := []handlers.Handler{handler{
		info: handlers.Info{Name: "able", CanUndo: true, Restart: handlers.RestartRetry},
		handle: func(ctx context.Context, c handlers.Call) (handlers.Result, error) {
			calls <- c
			if len(calls) == 1 {
				<-ctx.Done()
				return handlers.Result{}, context.Cause(ctx)
			}
			return handlers.Result{}, nil
		},
	}}
	cp, dir := newControlPlane(), t.TempDir()
	first := startAgent(t, cp, dir, hs)
	o := assign(cp, "undo", "able")
	o.Version, o.Assignment.Action, o.Assignment.Undoes = tasker.ActionVersion, tasker.Undo, "earlier"
	first.deliver(o)
	first.waitStatus(t, "undo", tasker.Running)
	must(t, first.stop())
	second := startAgent(t, cp, dir, hs)
	if got := second.waitEnded(t, "undo"); got.Status != tasker.Succeeded {
		t.Fatalf("%s, %s", got.Status, got.Reason)
	}
	for range 2 {
		if c := <-calls; c.Action != tasker.Undo || c.Undoes != "earlier" {
			t.Errorf("called with action %q, undoes %q", c.Action, c.Undoes)
		}
	}
}
