package service

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/handlers/systemd"
)

// systemd continues when the agent stops, and the next agent process does not restart the
// unit a second time.
func TestResumeDoesNotRestartTwice(t *testing.T) {
	t.Parallel()
	const unit, payload = "ts-app.service", `{"unit":"ts-app","verb":"restart","settle":"200ms"}`
	writeUnits(t, map[string]string{unit: shell("until [ -e /run/ts-go ]; do sleep 0.05; done; systemd-notify --ready; sleep 86416", "Type=notify", "NotifyAccess=all")})
	release := func() {
		if err := os.WriteFile("/run/ts-go", nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Remove("/run/ts-go") })
	release()
	do(t, "start", unit)
	c := newCaller(t, "ts-*")
	for _, cancelled := range []bool{false, true} {
		if err := os.Remove("/run/ts-go"); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancelCause(t.Context())
		activating := make(chan struct{})
		go func() {
			defer close(activating)
			m := new(Manager)
			for {
				if s, err := m.State(t.Context(), unit); err != nil || s.Active == "activating" {
					stop(handlers.ErrStopping)
					return
				}
			}
		}()
		id, _, err := c.call(ctx, payload)
		<-activating
		if !errors.Is(err, handlers.ErrStopping) {
			t.Fatalf("got %v", err)
		}
		conn, err := systemd.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		s, err := stateOf(t.Context(), conn, unit)
		if err != nil || s.Active != "activating" {
			t.Fatalf("it is %s, %v: systemd does not continue", s, err)
		}
		resumed := func(c *handlers.Call) { c.TaskID, c.Resumed = id, true }
		ctx, cancel := context.WithCancelCause(t.Context())
		if cancelled {
			cancel(handlers.ErrCancelled)
		} else {
			release()
		}
		_, o, err := c.call(ctx, payload, resumed)
		if cancelled {
			release() // earlier, the unit could be active before the call
		}
		after, stateErr := stateOf(t.Context(), conn, unit)
		cancel(nil)
		if stateErr != nil || after.invocation != s.invocation {
			t.Errorf("cancelled %v: the unit was restarted twice, %v", cancelled, stateErr)
		}
		if !o.Changed || o.From.Active != "active" {
			t.Errorf("cancelled %v: %+v", cancelled, o)
		}
		if want := map[bool]error{true: handlers.ErrCancelled}[cancelled]; !errors.Is(err, want) || !cancelled && o.To.Active != "active" {
			t.Errorf("cancelled %v: %v, %+v", cancelled, err, o)
		}
		for active := false; !active; {
			s, err := new(Manager).State(t.Context(), unit)
			if err != nil {
				t.Fatal(err)
			}
			active = s.active()
		}
	}
}
