package agent_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	bolt "go.etcd.io/bbolt"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent"
	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// 1,000 assignments of two types arrive in batches, with duplicates, and some attempts to
// send reports fail. Each assignment runs once, and at most 8 of a type run at a time.
func TestThousandAssignmentsRunOnce(t *testing.T) {
	t.Parallel()
	const n = 1000
	type counter struct{ now, most, ran atomic.Int64 }
	counters := map[string]*counter{"a": {}, "b": {}}
	var hs []handlers.Handler
	for name, c := range counters {
		hs = append(hs, handlerFunc(name, func(context.Context, handlers.Call) (handlers.Result, error) {
			now := c.now.Add(1)
			defer c.now.Add(-1)
			for most := c.most.Load(); now > most && !c.most.CompareAndSwap(most, now); most = c.most.Load() {
			}
			c.ran.Add(1)
			return handlers.Result{Value: now}, nil
		}))
	}
	cp := newDirectControlPlane()
	var sends atomic.Int64
	r := startAgent(t, cp, t.TempDir(), hs, func(o *agent.Options) { o.Link = &flakyLink{controlPlane: cp, sends: &sends} })
	for i := 0; i < n; i += 50 {
		var batch []tasker.Order
		for k := i; k < i+50; k++ {
			batch = append(batch, assign(cp, fmt.Sprintf("t%04d", k), []string{"a", "b"}[k%2]))
		}
		r.deliver(batch...)
		r.deliver(batch[:5]...)
	}
	cp.wait(t, "all to have succeeded", func() bool {
		done := 0
		for _, row := range cp.responses {
			if row.Status == tasker.Succeeded {
				done++
			}
		}
		return done == n
	})
	for name, c := range counters {
		if c.most.Load() > agent.DefaultConcurrency || c.ran.Load() != n/2 {
			t.Errorf("%s: %d at a time, %d in all", name, c.most.Load(), c.ran.Load())
		}
	}
}

func TestAssignmentsOfATypeStartInOrder(t *testing.T) {
	t.Parallel()
	blocking := newBlocking("deploy", "")
	close(blocking.release)
	cp := newControlPlane()
	var want []string
	for i := range 100 {
		want = append(want, fmt.Sprint("t", i))
		cp.batches = append(cp.batches, []tasker.Order{assign(cp, want[i], "deploy")})
	}
	startAgent(t, cp, t.TempDir(), []handlers.Handler{blocking}, func(o *agent.Options) { o.Concurrency = 1 })
	var got []string
	for range want {
		got = append(got, blocking.nextStarted(t))
	}
	if !slices.Equal(got, want) {
		t.Errorf("started in the order %v", got)
	}
}

func TestFullTypeDoesNotBlockOthers(t *testing.T) {
	t.Parallel()
	blocking := newBlocking("slow", "")
	r := startAgent(t, newControlPlane(), t.TempDir(), []handlers.Handler{blocking, handlerFunc("quick", func(context.Context, handlers.Call) (handlers.Result, error) {
		return handlers.Result{}, nil
	})}, func(o *agent.Options) { o.Concurrency = 2 })
	r.deliver(assign(r.controlPlane, "s1", "slow"), assign(r.controlPlane, "s2", "slow"), assign(r.controlPlane, "s3", "slow"), assign(r.controlPlane, "q", "quick"))
	r.waitEnded(t, "q")
	blocking.nextStarted(t)
	blocking.nextStarted(t)
	r.waitStatus(t, "s3", tasker.Received)
	want := `
# HELP tasker_agent_assignments_running Assignments whose handler is running.
# TYPE tasker_agent_assignments_running gauge
tasker_agent_assignments_running{type="quick"} 0
tasker_agent_assignments_running{type="slow"} 2
# HELP tasker_agent_assignments_waiting Assignments accepted and not yet started.
# TYPE tasker_agent_assignments_waiting gauge
tasker_agent_assignments_waiting{type="quick"} 0
tasker_agent_assignments_waiting{type="slow"} 1
`
	waitFor(t, "the metrics", func() bool {
		return testutil.GatherAndCompare(r.reg, strings.NewReader(want), "tasker_agent_assignments_running", "tasker_agent_assignments_waiting") == nil
	})
	close(blocking.release)
	r.waitEnded(t, "s3")
}

// Assignments end while the link is down. Their reports arrive when it is up again.
func TestReportsSurviveOutage(t *testing.T) {
	t.Parallel()
	blocking := newBlocking("deploy", "")
	r := startDefault(t, blocking)
	for i := range 5 {
		r.deliver(assign(r.controlPlane, fmt.Sprint("t", i), "deploy"))
		blocking.nextStarted(t)
	}
	r.waitStatus(t, "t4", tasker.Running)
	r.change(func() { r.down = true })
	close(blocking.release)
	waitFor(t, "all to have ended", func() bool {
		entries, err := r.journal.Entries()
		must(t, err)
		return !slices.ContainsFunc(entries, func(e journal.Entry) bool { return e.Phase != journal.Ended })
	})
	if got := r.response("t0", 1); got.Status != tasker.Running {
		t.Errorf("a report went through the outage: %+v", got)
	}
	r.change(func() { r.down = false })
	for i := range 5 {
		if got := r.waitEnded(t, fmt.Sprint("t", i)); got.Status != tasker.Succeeded {
			t.Errorf("t%d: %+v", i, got)
		}
	}
}

func TestRefusedReportDoesNotBlockOthers(t *testing.T) {
	t.Parallel()
	cp := newDirectControlPlane()
	cp.refuse = func(r tasker.Report) bool { return r.Update != nil && strings.HasPrefix(r.Update.TaskID, "bad") }
	r := startAgent(t, cp, t.TempDir(), []handlers.Handler{handlerFunc("deploy", func(context.Context, handlers.Call) (handlers.Result, error) {
		return handlers.Result{}, nil
	})})
	r.deliver(assign(cp, "bad1", "deploy"), assign(cp, "good1", "deploy"), assign(cp, "bad2", "deploy"))
	r.deliver(assign(cp, "good2", "deploy"))
	r.waitEnded(t, "good1")
	r.waitEnded(t, "good2")
	waitFor(t, "the refused reports to be dropped", func() bool {
		entries, err := r.journal.Entries()
		must(t, err)
		return len(entries) == 4 && !slices.ContainsFunc(entries, func(e journal.Entry) bool { return !e.Confirmed })
	})
}

func TestOrderIsNotAcknowledgedIfJournalFails(t *testing.T) {
	t.Parallel()
	blocking := newBlocking("deploy", "")
	r := startAgent(t, newDirectControlPlane(), t.TempDir(), []handlers.Handler{blocking})
	r.wait(t, "the welcome", func() bool { return len(r.reports) > 0 && len(r.batches) == 0 })
	must(t, r.journal.Close())
	r.deliver(assign(r.controlPlane, "t1", "deploy"))
	r.wait(t, "the batch not to be acknowledged", func() bool { return r.unacknowledged > 1 })
	if len(blocking.started) > 0 || r.response("t1", 1).Status != "" {
		t.Error("an assignment was started without a record")
	}
}

// transactions returns how many transactions a closed journal has had.
func transactions(t *testing.T, dir string) int {
	t.Helper()
	db, err := bolt.Open(filepath.Join(dir, journal.FileName), 0o600, &bolt.Options{ReadOnly: true})
	must(t, err)
	defer func() { must(t, db.Close()) }()
	n := 0
	must(t, db.View(func(tx *bolt.Tx) error { n = tx.ID(); return nil }))
	return n
}

// A short task causes two transactions: its acceptance with its start, and its end. The
// confirmation at the stop and each opening cause one more.
func TestShortTaskTakesTwoTransactions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, err := journal.Open(dir, journal.Options{})
	must(t, err)
	must(t, j.Close())
	before := transactions(t, dir)

	noop := handlerFunc("deploy", func(context.Context, handlers.Call) (handlers.Result, error) { return handlers.Result{}, nil })
	r := startAgent(t, newDirectControlPlane(), dir, []handlers.Handler{noop})
	r.deliver(assign(r.controlPlane, "first", "deploy")) // the welcome may arrive later
	r.waitEnded(t, "first")
	for i := range 10 {
		id := fmt.Sprint("t", i)
		r.deliver(assign(r.controlPlane, id, "deploy"))
		if got := r.waitEnded(t, id); got.StartedAt == nil || got.ReceivedAt == nil {
			t.Errorf("%s: %+v", id, got)
		}
		if n := len(r.updates(id)); n > 2 { // running, if the journal is slow, and the final one
			t.Errorf("%s took %d reports", id, n)
		}
	}
	must(t, r.stop())
	const opening, confirming, first = 1, 1, 4 // first is held, admitted, started and ended
	if n := transactions(t, dir) - before; n < 20 || n > 20+opening+confirming+first {
		t.Errorf("10 tasks took %d transactions", n)
	}
}

// An assignment and its cancel arrive in one batch. The test uses a direct link, because
// HTTP may split the batch, so that the handler starts.
func TestAssignmentCancelledInItsBatchDoesNotStart(t *testing.T) {
	t.Parallel()
	blocking := newBlocking("deploy", "")
	cp := newDirectControlPlane()
	r := startAgent(t, cp, t.TempDir(), []handlers.Handler{blocking})
	r.deliver(assign(cp, "first", "deploy"))
	blocking.nextStarted(t) // the agent has begun to start handlers
	r.deliver(assign(cp, "t1", "deploy"), cancel(cp, "t1"))
	if got := r.waitEnded(t, "t1"); got.Status != tasker.Cancelled {
		t.Errorf("it ended as %+v", got)
	}
	if len(blocking.started) > 0 {
		t.Error("the handler was started")
	}
	blocking.release <- struct{}{}
	r.waitEnded(t, "first")
}

// flakyLink fails at one of seven sends, before or after delivering the reports.
type flakyLink struct {
	*controlPlane
	sends *atomic.Int64
}

func (f *flakyLink) Send(ctx context.Context, reports ...tasker.Report) error {
	switch f.sends.Add(1) % 14 {
	case 7:
		return errors.New("report lost")
	case 0:
		if err := f.controlPlane.Send(ctx, reports...); err != nil {
			return err
		}
		return errors.New("response lost")
	}
	return f.controlPlane.Send(ctx, reports...)
}

// waitFor polls a condition.
func waitFor(t testing.TB, what string, condition func() bool) {
	t.Helper()
	timeout := time.After(testTimeout)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("timeout waiting for %s", what)
		}
	}
}
