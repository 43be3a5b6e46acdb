package agent_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// An agent whose credential is refused for too long, such as a revoked one, ends what it
// runs and what waits. It reports that when it is accepted again.
func TestRefusedAgentEndsItsAssignments(t *testing.T) {
	t.Parallel()
	refusal := fmt.Errorf("%w: revoked", transport.ErrUnauthorized)
	tests := map[string]struct {
		timeout time.Duration
		// then happens half-way to the timeout.
		then  func(*agent.Connection)
		ended bool
	}{
		"refused for the timeout":         {time.Minute, func(*agent.Connection) {}, true},
		"not reachable in between":        {time.Minute, func(c *agent.Connection) { c.Observe(errors.New("no route")) }, true},
		"accepted again in time":          {time.Minute, func(c *agent.Connection) { c.Observe(nil) }, false},
		"the agent is to continue anyway": {0, func(*agent.Connection) {}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				blocking, connection := newBlocking("deploy", handlers.RestartRetry), agent.NewConnection()
				r := startAgent(t, newDirectControlPlane(), t.TempDir(), []handlers.Handler{blocking}, fakeClock, func(o *agent.Options) {
					o.Concurrency, o.Connection, o.UnauthorizedTimeout = 1, connection, tt.timeout
				})
				r.deliver(assign(r.controlPlane, "runs", "deploy"), assign(r.controlPlane, "waits", "deploy"))
				blocking.nextStarted(t)
				r.waitStatus(t, "waits", tasker.Received)
				connection.Observe(refusal)
				advance(30 * time.Second)
				tt.then(connection)
				advance(30*time.Second - time.Millisecond)
				if got := r.response("runs", 1); got.Status != tasker.Running {
					t.Fatalf("before the timeout: %+v", got)
				}
				advance(time.Second)
				for id, unended := range map[string]tasker.ResponseStatus{"runs": tasker.Running, "waits": tasker.Received} {
					want, reason := unended, ""
					if tt.ended {
						want, reason = tasker.Interrupted, "the control plane refuses this agent"
					}
					if got := r.response(id, 1); got.Status != want || got.Reason != reason {
						t.Errorf("%s: %s, reason %q, want %s, reason %q", id, got.Status, got.Reason, want, reason)
					}
				}
				connection.Observe(nil)
				r.deliver(assign(r.controlPlane, "later", "deploy"))
				close(blocking.release)
				if got := r.waitEnded(t, "later"); got.Status != tasker.Succeeded {
					t.Errorf("a task after the agent was accepted again: %+v", got)
				}
				must(t, r.stop())
			})
		})
	}
}
