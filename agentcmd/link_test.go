package agentcmd

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/MatthiasWiesner/tasker/agent"
	"github.com/MatthiasWiesner/tasker/internal/syncbuffer"
	"github.com/MatthiasWiesner/tasker/internal/sysservice"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

func TestObserverAdvisesARefusedAgentToEnrol(t *testing.T) {
	manager := fakeServiceManager(t)
	var logged syncbuffer.Buffer
	log := slog.New(slog.NewTextHandler(&logged, nil))
	observer := newObserver(log, agent.NewMetrics(prometheus.NewRegistry()), sysservice.NewNotifier(log), agent.NewConnection())
	for range 2 {
		observer(fmt.Errorf("wrapped: %w: revoked at noon", transport.ErrUnauthorized))
	}
	observer(errors.New("connection refused"))
	observer(nil)
	waitFor(t, func() bool { return strings.Contains(manager.String(), "STATUS=connected") }, manager.String)
	if n := strings.Count(logged.String(), "refused by the control plane"); n != 1 || !strings.Contains(logged.String(), enrolAgain) {
		t.Errorf("log:\n%s", logged.String())
	}
	for _, status := range []string{"STATUS=refused by the control plane; " + enrolAgain, "revoked at noon", "STATUS=not connected; retrying: connection refused"} {
		if !strings.Contains(manager.String(), status) {
			t.Errorf("%q was not sent to the service manager:\n%s", status, manager)
		}
	}
}
