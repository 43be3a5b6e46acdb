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

// What nobody known has signed is acknowledged, counted each time, and logged once a
// minute for each kind.
func TestRefusedOrdersAreCountedAndLoggedSeldom(t *testing.T) {
	t.Parallel()
	public, _, err := ed25519.GenerateKey(nil)
	must(t, err)
	w := directWire()
	w.mute = true
	said := &bytes.Buffer{} // the agent's, until it has stopped
	clock := make(chan time.Duration, 1)
	clock <- time.Hour
	r := start(t, w, t.TempDir(), []handlers.Handler{newGate("work", "")}, func(o *agent.Options) {
		o.Keys = []ed25519.PublicKey{public}
		o.Log = slog.New(slog.NewTextHandler(said, nil))
		o.Clock = func() time.Duration {
			now := <-clock
			clock <- now
			return now
		}
	})
	taken := func() {
		t.Helper()
		w.wait(t, "the orders to be acknowledged", func() bool { return len(w.batches) == 0 })
	}
	w.order(assign(w, "one", "work"), assign(w, "two", "work"), cancel(w, "three"))
	w.order(assign(w, "four", "work"), tasker.Order{Version: 1, Endpoint: endpoint, Welcome: &tasker.Welcome{Now: w.time()}})
	taken()
	<-clock
	clock <- time.Hour + time.Minute
	w.order(cancel(w, "five"), cancel(w, "six"))
	taken()
	must(t, r.stop())

	const want = `# HELP tasker_agent_orders_refused_total Orders that were refused without being processed.
# TYPE tasker_agent_orders_refused_total counter
tasker_agent_orders_refused_total{reason="signature"} 7
`
	if err := testutil.GatherAndCompare(r.reg, strings.NewReader(want), "tasker_agent_orders_refused_total"); err != nil {
		t.Error(err)
	}
	for part, times := range map[string]int{"order refused": 4, "task=one": 1, "task=three": 1, "kind=welcome": 1, "task=five": 1, "task=six": 0} {
		if n := strings.Count(said.String(), part); n != times {
			t.Errorf("%q is %d times in the log, want %d:\n%s", part, n, times, said)
		}
	}
	if w.held > 0 || len(w.rows) > 0 {
		t.Errorf("held %d times, rows %v", w.held, w.rows)
	}
}
