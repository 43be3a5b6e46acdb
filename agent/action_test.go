package agent_test

import (
	"context"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// TestActions asks handlers for a plan and to undo, those that can and those that
// cannot.
func TestActions(t *testing.T) {
	t.Parallel()
	asked := func(_ context.Context, c handlers.Call) (handlers.Result, error) {
		return handlers.Result{Value: string(c.Action) + ":" + c.Undoes}, nil
	}
	able := handler{info: handlers.Info{Name: "able", CanDryRun: true, CanUndo: true}, handle: asked}
	plain := work("plain", func(_ context.Context, c handlers.Call) (handlers.Result, error) {
		if c.Action != tasker.Perform {
			panic("called for " + c.Action)
		}
		return handlers.Result{}, nil
	})
	order := func(w *wire, id, handler string, action tasker.Action) tasker.Order {
		o := assign(w, id, handler)
		o.Version, o.Assignment.Action = tasker.ActionVersion, action
		if action == tasker.Undo {
			o.Assignment.Undoes = "earlier"
		}
		return o
	}
	r := start(t, newWire(), t.TempDir(), []handlers.Handler{able, plain})
	elsewhere := order(r.wire, "elsewhere", "able", tasker.Undo)
	elsewhere.Assignment.Undoes = "../../etc"
	r.order(
		elsewhere,
		order(r.wire, "able-plan", "able", tasker.DryRun), order(r.wire, "able-undo", "able", tasker.Undo),
		order(r.wire, "plain-plan", "plain", tasker.DryRun), order(r.wire, "plain-undo", "plain", tasker.Undo),
		order(r.wire, "plain-do", "plain", tasker.Perform), order(r.wire, "able-dance", "able", "dance"),
	)
	for id, want := range map[string]struct {
		status         tasker.ResponseStatus
		result, reason string
	}{
		"able-plan":  {tasker.Succeeded, `"plan:"`, ""},
		"able-undo":  {tasker.Succeeded, `"undo:earlier"`, ""},
		"plain-plan": {tasker.Succeeded, "", "makes no plan"},
		"plain-undo": {tasker.Rejected, "", "cannot undo"},
		"plain-do":   {tasker.Succeeded, "", ""},
		"able-dance": {tasker.Rejected, "", "update the agent"},
		"elsewhere":  {tasker.Rejected, "", "no task that can be undone"},
	} {
		got := r.ended(t, id)
		if got.Status != want.status || string(got.Result) != want.result || !strings.Contains(got.Reason, want.reason) || (want.reason == "") != (got.Reason == "") {
			t.Errorf("%s: %s, result %s, reason %q; want %+v", id, got.Status, got.Result, got.Reason, want)
		}
	}
}

// TestActionOutlivesTheAgent stops the agent before the handler that is to undo
// has ended; the next agent asks it for the same.
func TestActionOutlivesTheAgent(t *testing.T) {
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
	w, dir := newWire(), t.TempDir()
	first := start(t, w, dir, hs)
	o := assign(w, "undo", "able")
	o.Version, o.Assignment.Action, o.Assignment.Undoes = tasker.ActionVersion, tasker.Undo, "earlier"
	first.order(o)
	first.reached(t, "undo", tasker.Running)
	must(t, first.stop())
	second := start(t, w, dir, hs)
	if got := second.ended(t, "undo"); got.Status != tasker.Succeeded {
		t.Fatalf("%s, %s", got.Status, got.Reason)
	}
	for range 2 {
		if c := <-calls; c.Action != tasker.Undo || c.Undoes != "earlier" {
			t.Errorf("called for %q of %q", c.Action, c.Undoes)
		}
	}
}
