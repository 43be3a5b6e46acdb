package agent_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent"
	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// detachedGate is a gate whose work goes on when the agent stops; it prints what
// an earlier agent process has not printed yet of the letters.
func detachedGate() (g *gate, ends chan error) {
	g, ends = newGate("work", handlers.RestartResume), make(chan error, 10)
	g.info.Detached = true
	inner := g.handle
	const letters = "abcdefghij"
	g.handle = func(ctx context.Context, c handlers.Call) (handlers.Result, error) {
		upTo := 4
		if c.Resumed {
			upTo = len(letters)
		}
		fmt.Fprint(c.Output, letters[min(int(c.OutputBytes), upTo):upTo])
		r, err := inner(ctx, c)
		ends <- context.Cause(ctx)
		return r, err
	}
	return g, ends
}

// TestStopDoesNotWaitForDetached though it would wait for others, and the next
// agent process goes on with it; its output is as one.
func TestStopDoesNotWaitForDetached(t *testing.T) {
	t.Parallel()
	g, ends := detachedGate()
	r := start(t, newWire(), t.TempDir(), []handlers.Handler{g}, func(o *agent.Options) { o.StopTimeout = 10 * patience })
	r.order(assign(r.wire, "t1", "work"))
	g.next(t)
	r.wait(t, "the output", func() bool { return r.rows[journal.Ref{TaskID: "t1", Attempt: 1}].OutputBytes == 4 })
	must(t, r.stop())
	if cause := <-ends; !errors.Is(cause, handlers.ErrStopping) {
		t.Errorf("it was ended by %v", cause)
	}
	if got := r.row("t1", 1); got.Status != tasker.Running {
		t.Errorf("at the stop: %+v", got)
	}
	close(g.pass)
	w := newWire()
	w.output = r.output
	r = start(t, w, r.dir, []handlers.Handler{g})
	if got := r.ended(t, "t1"); got.Status != tasker.Succeeded || string(got.Result) != `{"attempt":1,"resumed":true}` || got.OutputBytes != 10 {
		t.Errorf("at the next start: %+v %s", got, got.Result)
	}
	if got := r.printed("t1"); got != "abcdefghij" {
		t.Errorf("printed %q", got)
	}
}

// TestDetachedIsEndedByItsHandler when it was cancelled while no agent ran:
// nobody else could end it.
func TestDetachedIsEndedByItsHandler(t *testing.T) {
	t.Parallel()
	g, ends := detachedGate()
	r := start(t, newWire(), t.TempDir(), []handlers.Handler{g})
	r.order(assign(r.wire, "t1", "work"))
	g.next(t)
	r.reached(t, "t1", tasker.Running)
	must(t, r.stop())
	if cause := <-ends; !errors.Is(cause, handlers.ErrStopping) {
		t.Errorf("it was ended by %v", cause)
	}
	w := newWire()
	w.order(cancel(w, "t1"))
	r = start(t, w, r.dir, []handlers.Handler{g})
	if got := r.ended(t, "t1"); got.Status != tasker.Cancelled {
		t.Errorf("%+v", got)
	}
	select {
	case cause := <-ends:
		if !errors.Is(cause, handlers.ErrCancelled) {
			t.Errorf("it was ended by %v", cause)
		}
	default:
		t.Error("the handler was not called to end it")
	}
}
