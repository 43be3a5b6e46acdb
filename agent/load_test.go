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

// TestThousand performs 1,000 assignments of two types, in batches, while the
// link fails now and then: each runs once, at most 8 of a type at a time.
func TestThousand(t *testing.T) {
	t.Parallel()
	const n = 1000
	type counter struct{ now, most, ran atomic.Int64 }
	counters := map[string]*counter{"a": {}, "b": {}}
	var hs []handlers.Handler
	for name, c := range counters {
		hs = append(hs, work(name, func(context.Context, handlers.Call) (handlers.Result, error) {
			now := c.now.Add(1)
			defer c.now.Add(-1)
			for most := c.most.Load(); now > most && !c.most.CompareAndSwap(most, now); most = c.most.Load() {
			}
			c.ran.Add(1)
			return handlers.Result{Value: now}, nil
		}))
	}
	w := directWire()
	var sends atomic.Int64
	r := start(t, w, t.TempDir(), hs, func(o *agent.Options) { o.Link = &flaky{wire: w, sends: &sends} })
	for i := 0; i < n; i += 50 {
		var batch []tasker.Order
		for k := i; k < i+50; k++ {
			batch = append(batch, assign(w, fmt.Sprintf("t%04d", k), []string{"a", "b"}[k%2]))
		}
		r.order(batch...)
		r.order(batch[:5]...)
	}
	w.wait(t, "all to have succeeded", func() bool {
		done := 0
		for _, row := range w.rows {
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

// TestFirstComeFirstServed starts the assignments of a type in their order.
func TestFirstComeFirstServed(t *testing.T) {
	t.Parallel()
	g := newGate("work", "")
	close(g.pass)
	w := newWire()
	var want []string
	for i := range 100 {
		want = append(want, fmt.Sprint("t", i))
		w.batches = append(w.batches, []tasker.Order{assign(w, want[i], "work")})
	}
	start(t, w, t.TempDir(), []handlers.Handler{g}, func(o *agent.Options) { o.Concurrency = 1 })
	var got []string
	for range want {
		got = append(got, g.next(t))
	}
	if !slices.Equal(got, want) {
		t.Errorf("started in the order %v", got)
	}
}

// TestTypesDoNotWaitForEachOther fills one type and performs another.
func TestTypesDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	g := newGate("slow", "")
	r := start(t, newWire(), t.TempDir(), []handlers.Handler{g, work("quick", func(context.Context, handlers.Call) (handlers.Result, error) {
		return handlers.Result{}, nil
	})}, func(o *agent.Options) { o.Concurrency = 2 })
	r.order(assign(r.wire, "s1", "slow"), assign(r.wire, "s2", "slow"), assign(r.wire, "s3", "slow"), assign(r.wire, "q", "quick"))
	r.ended(t, "q")
	g.next(t)
	g.next(t)
	r.reached(t, "s3", tasker.Received)
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
	close(g.pass)
	r.ended(t, "s3")
}

// TestOutage takes the link away while assignments end; every report arrives
// when it is back, and the hello names what had not been reported.
func TestOutage(t *testing.T) {
	t.Parallel()
	g := newGate("work", "")
	r := simple(t, g)
	for i := range 5 {
		r.order(assign(r.wire, fmt.Sprint("t", i), "work"))
		g.next(t)
	}
	r.reached(t, "t4", tasker.Running)
	r.change(func() { r.down = true })
	close(g.pass)
	waitFor(t, "all to have ended", func() bool {
		entries, err := r.journal.Entries()
		must(t, err)
		return !slices.ContainsFunc(entries, func(e journal.Entry) bool { return e.Phase != journal.Ended })
	})
	if got := r.row("t0", 1); got.Status != tasker.Running {
		t.Errorf("a report went through the outage: %+v", got)
	}
	r.change(func() { r.down = false })
	for i := range 5 {
		if got := r.ended(t, fmt.Sprint("t", i)); got.Status != tasker.Succeeded {
			t.Errorf("t%d: %+v", i, got)
		}
	}
}

// TestRefusedReport drops what the control plane refuses and goes on.
func TestRefusedReport(t *testing.T) {
	t.Parallel()
	w := directWire()
	w.refuse = func(r tasker.Report) bool { return r.Update != nil && strings.HasPrefix(r.Update.TaskID, "bad") }
	r := start(t, w, t.TempDir(), []handlers.Handler{work("work", func(context.Context, handlers.Call) (handlers.Result, error) {
		return handlers.Result{}, nil
	})})
	r.order(assign(w, "bad1", "work"), assign(w, "good1", "work"), assign(w, "bad2", "work"))
	r.order(assign(w, "good2", "work"))
	r.ended(t, "good1")
	r.ended(t, "good2")
	waitFor(t, "the refused ones to be given up", func() bool {
		entries, err := r.journal.Entries()
		must(t, err)
		return len(entries) == 4 && !slices.ContainsFunc(entries, func(e journal.Entry) bool { return !e.Confirmed })
	})
}

// TestJournalFails holds the orders that cannot be recorded.
func TestJournalFails(t *testing.T) {
	t.Parallel()
	g := newGate("work", "")
	r := start(t, directWire(), t.TempDir(), []handlers.Handler{g})
	r.wait(t, "the welcome", func() bool { return len(r.reports) > 0 && len(r.batches) == 0 })
	must(t, r.journal.Close())
	r.order(assign(r.wire, "t1", "work"))
	r.wait(t, "the batch to be held", func() bool { return r.held > 1 })
	if len(g.started) > 0 || r.row("t1", 1).Status != "" {
		t.Error("an assignment that was not recorded was begun")
	}
}

// transactions is how often the file of a journal that is closed was written.
func transactions(t *testing.T, dir string) int {
	t.Helper()
	db, err := bolt.Open(filepath.Join(dir, journal.FileName), 0o600, &bolt.Options{ReadOnly: true})
	must(t, err)
	defer func() { must(t, db.Close()) }()
	n := 0
	must(t, db.View(func(tx *bolt.Tx) error { n = tx.ID(); return nil }))
	return n
}

// TestShortTaskTakesTwoTransactions counts what a task that is done at once writes
// to the journal: its acceptance with its start, and its end. One more is for
// the confirmation when the agent stops, one for each opening.
func TestShortTaskTakesTwoTransactions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, err := journal.Open(dir, journal.Options{})
	must(t, err)
	must(t, j.Close())
	before := transactions(t, dir)

	ran := work("work", func(context.Context, handlers.Call) (handlers.Result, error) { return handlers.Result{}, nil })
	r := start(t, directWire(), dir, []handlers.Handler{ran})
	r.order(assign(r.wire, "first", "work")) // the welcome may come after it
	r.ended(t, "first")
	for i := range 10 {
		id := fmt.Sprint("t", i)
		r.order(assign(r.wire, id, "work"))
		if got := r.ended(t, id); got.StartedAt == nil || got.ReceivedAt == nil {
			t.Errorf("%s: %+v", id, got)
		}
		if n := len(r.updates(id)); n > 2 { // that it runs, if the journal is slow, and that it ended
			t.Errorf("%s took %d reports", id, n)
		}
	}
	must(t, r.stop())
	const opening, confirming, first = 1, 1, 4 // of the first: held, admitted, started, ended
	if n := transactions(t, dir) - before; n < 20 || n > 20+opening+confirming+first {
		t.Errorf("10 tasks took %d transactions", n)
	}
}

// TestCancelInTheBatchOfTheStart brings an assignment and its cancel in one batch,
// which HTTP may take apart: then the handler is started, and ended.
func TestCancelInTheBatchOfTheStart(t *testing.T) {
	t.Parallel()
	g := newGate("work", "")
	w := directWire()
	r := start(t, w, t.TempDir(), []handlers.Handler{g})
	r.order(assign(w, "first", "work"))
	g.next(t) // so handlers may be started
	r.order(assign(w, "t1", "work"), cancel(w, "t1"))
	if got := r.ended(t, "t1"); got.Status != tasker.Cancelled {
		t.Errorf("it ended as %+v", got)
	}
	if len(g.started) > 0 {
		t.Error("the handler was started")
	}
	g.pass <- struct{}{}
	r.ended(t, "first")
}

// flaky is a wire on which one send of seven fails, before or after it passed.
type flaky struct {
	*wire
	sends *atomic.Int64
}

func (f *flaky) Send(ctx context.Context, reports ...tasker.Report) error {
	switch f.sends.Add(1) % 14 {
	case 7:
		return errors.New("lost on the way there")
	case 0:
		if err := f.wire.Send(ctx, reports...); err != nil {
			return err
		}
		return errors.New("lost on the way back")
	}
	return f.wire.Send(ctx, reports...)
}

// waitFor polls a condition that nothing announces.
func waitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	timeout := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
