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

// newDetached returns a detached blockingHandler. It prints those of the letters that an
// earlier agent process has not printed. ends receives the causes of its contexts.
func newDetached() (blocking *blockingHandler, ends chan error) {
	blocking, ends = newBlocking("deploy", handlers.RestartResume), make(chan error, 10)
	blocking.info.Detached = true
	inner := blocking.handle
	const letters = "abcdefghij"
	blocking.handle = func(ctx context.Context, c handlers.Call) (handlers.Result, error) {
		upTo := 4
		if c.Resumed {
			upTo = len(letters)
		}
		fmt.Fprint(c.Output, letters[min(int(c.OutputBytes), upTo):upTo])
		r, err := inner(ctx, c)
		ends <- context.Cause(ctx)
		return r, err
	}
	return blocking, ends
}

// The next agent process continues the work, and the output is complete.
func TestStopDoesNotWaitForDetached(t *testing.T) {
	t.Parallel()
	blocking, ends := newDetached()
	r := startAgent(t, newControlPlane(), t.TempDir(), []handlers.Handler{blocking}, func(o *agent.Options) { o.StopTimeout = 10 * testTimeout })
	r.deliver(assign(r.controlPlane, "t1", "deploy"))
	blocking.nextStarted(t)
	r.wait(t, "the output", func() bool { return r.responses[journal.Ref{TaskID: "t1", Attempt: 1}].OutputBytes == 4 })
	must(t, r.stop())
	if cause := <-ends; !errors.Is(cause, handlers.ErrStopping) {
		t.Errorf("it was ended by %v", cause)
	}
	if got := r.response("t1", 1); got.Status != tasker.Running {
		t.Errorf("at the stop: %+v", got)
	}
	close(blocking.release)
	cp := newControlPlane()
	cp.output = r.output
	r = startAgent(t, cp, r.dir, []handlers.Handler{blocking})
	if got := r.waitEnded(t, "t1"); got.Status != tasker.Succeeded || string(got.Result) != `{"attempt":1,"resumed":true}` || got.OutputBytes != 10 {
		t.Errorf("at the next start: %+v %s", got, got.Result)
	}
	if got := r.outputOf("t1"); got != "abcdefghij" {
		t.Errorf("printed %q", got)
	}
}

// A detached assignment is cancelled while no agent runs. Only its handler can end it.
func TestDetachedIsEndedByItsHandler(t *testing.T) {
	t.Parallel()
	blocking, ends := newDetached()
	r := startAgent(t, newControlPlane(), t.TempDir(), []handlers.Handler{blocking})
	r.deliver(assign(r.controlPlane, "t1", "deploy"))
	blocking.nextStarted(t)
	r.waitStatus(t, "t1", tasker.Running)
	must(t, r.stop())
	if cause := <-ends; !errors.Is(cause, handlers.ErrStopping) {
		t.Errorf("it was ended by %v", cause)
	}
	cp := newControlPlane()
	cp.deliver(cancel(cp, "t1"))
	r = startAgent(t, cp, r.dir, []handlers.Handler{blocking})
	if got := r.waitEnded(t, "t1"); got.Status != tasker.Cancelled {
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
