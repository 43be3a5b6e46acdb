package agent_test

import (
	"bytes"
	"crypto/ed25519"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// Unsigned orders are acknowledged, counted, and logged once a minute for each kind.
func TestUnsignedOrdersAreCountedAndRarelyLogged(t *testing.T) {
	t.Parallel()
	public, _, err := ed25519.GenerateKey(nil)
	must(t, err)
	cp := newDirectControlPlane()
	cp.ignoreHellos = true
	logged := &bytes.Buffer{} // belongs to the agent until it has stopped
	clock := make(chan time.Duration, 1)
	clock <- time.Hour
	r := startAgent(t, cp, t.TempDir(), []handlers.Handler{newBlocking("deploy", "")}, func(o *agent.Options) {
		o.Keys = []ed25519.PublicKey{public}
		o.Log = slog.New(slog.NewTextHandler(logged, nil))
		o.Clock = func() time.Duration {
			now := <-clock
			clock <- now
			return now
		}
	})
	waitAcknowledged := func() {
		t.Helper()
		cp.wait(t, "the orders to be acknowledged", func() bool { return len(cp.batches) == 0 })
	}
	cp.deliver(assign(cp, "one", "deploy"), assign(cp, "two", "deploy"), cancel(cp, "three"))
	cp.deliver(assign(cp, "four", "deploy"), tasker.Order{Version: 1, Endpoint: endpoint, Welcome: &tasker.Welcome{Now: cp.time()}})
	waitAcknowledged()
	<-clock
	clock <- time.Hour + time.Minute
	cp.deliver(cancel(cp, "five"), cancel(cp, "six"))
	waitAcknowledged()
	must(t, r.stop())

	const want = `# HELP tasker_agent_orders_refused_total Orders that were refused without being processed.
# TYPE tasker_agent_orders_refused_total counter
tasker_agent_orders_refused_total{reason="signature"} 7
`
	if err := testutil.GatherAndCompare(r.reg, strings.NewReader(want), "tasker_agent_orders_refused_total"); err != nil {
		t.Error(err)
	}
	for part, times := range map[string]int{"order refused": 4, "task=one": 1, "task=three": 1, "kind=welcome": 1, "task=five": 1, "task=six": 0} {
		if n := strings.Count(logged.String(), part); n != times {
			t.Errorf("%q is %d times in the log, want %d:\n%s", part, n, times, logged)
		}
	}
	if cp.unacknowledged > 0 || len(cp.responses) > 0 {
		t.Errorf("%d not acknowledged, responses %v", cp.unacknowledged, cp.responses)
	}
}
