// Package agent performs the tasks of one endpoint. It receives orders from a transport,
// records them in its journal before it acknowledges them, runs the handlers, and repeats
// its reports until the control plane has received them.
//
// An assignment passes through these parts, from top to bottom:
//
//	receiver   orders.go, batch.go                      verifies, records and acknowledges orders
//	decide     decide.go, refusal.go                    decides the next step of an assignment
//	scheduler  runqueue.go                              queues assignments and starts them
//	performer  perform.go, outcome.go, output.go        calls the handler, records the outcome
//	reporter   reportqueue.go, reporter.go, updates.go  sends hellos, heartbeats and updates
//
// The registry (registry.go) holds all assignments in memory, the clock (clock.go) keeps
// the control plane's time, and the restarter (restart.go) decides about the assignments
// that an earlier agent process has left.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// Agent performs the assignments of one endpoint.
type Agent struct {
	*shared
	performer *performer
	scheduler *scheduler
	reporter  *reporter
	receiver  *receiver
	restarter *restarter
}

// shared is what all parts of an Agent use.
type shared struct {
	opts     *Options
	clock    *clock
	registry *registry
	reports  *reportQueue
	keys     *trustedKeys
}

// New returns an Agent; Run starts it.
func New(opts Options) (*Agent, error) {
	if err := tasker.ValidateEndpoint(opts.Endpoint); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	if opts.Link == nil || opts.Journal == nil || opts.Handlers == nil {
		return nil, errors.New("agent: Link, Journal and Handlers are required")
	}
	if opts.Concurrency <= 0 {
		opts.Concurrency = DefaultConcurrency
	}
	if opts.KillGrace <= 0 {
		opts.KillGrace = handlers.DefaultKillGrace
	}
	if opts.StopTimeout <= 0 {
		opts.StopTimeout = DefaultStopTimeout
	}
	if opts.Clock == nil {
		opts.Clock = newSinceBoot()
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Metrics == nil {
		opts.Metrics = NewMetrics(prometheus.NewRegistry())
	}
	opts.Log = opts.Log.With("endpoint", opts.Endpoint)
	s := &shared{opts: &opts, clock: newClock(opts.Clock), registry: newRegistry(), reports: newReportQueue(), keys: newTrustedKeys(opts.Keys)}
	a := &Agent{shared: s, performer: &performer{shared: s}}
	a.scheduler = &scheduler{shared: s, performer: a.performer, queues: map[string]*runQueue{}}
	a.reporter = &reporter{shared: s, scheduler: a.scheduler, updates: &updateSender{s}, probe: make(chan struct{})}
	a.receiver = &receiver{
		shared: s, scheduler: a.scheduler, performer: a.performer, reporter: a.reporter,
		logged: map[string]time.Duration{},
	}
	a.restarter = &restarter{shared: s, scheduler: a.scheduler, performer: a.performer}
	return a, nil
}

// Run performs assignments until ctx is done; it may be called once. Then it starts no
// more handlers, waits up to StopTimeout for the running ones, interrupts the rest, and
// sends the queued reports. Assignments that were not started stay in the journal for the
// next start. Run returns nil after such a stop, and an error if the journal cannot be
// read, the link has failed, or a handler does not return.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.restarter.load(); err != nil {
		return err
	}
	a.opts.Metrics.setVersion(a.opts.Version)
	alive := context.WithoutCancel(ctx)
	var giveUp context.CancelFunc
	a.performer.base, giveUp = context.WithCancel(alive)
	defer giveUp()
	receiving, stopReceiving := context.WithCancel(alive)
	defer stopReceiving()
	reporting, stopReporting := context.WithCancel(alive)
	defer stopReporting()

	linkErr := make(chan error, 1)
	go func() { linkErr <- a.opts.Link.Receive(receiving, a.receiver.receive) }()
	var others sync.WaitGroup
	others.Go(func() { a.reporter.run(reporting) })
	others.Go(func() { a.restarter.run(receiving, a.performer.base) })
	others.Go(func() { a.sweepJournal(receiving) })
	others.Go(func() { a.endRefused(receiving) })
	a.opts.Log.Info("agent started", "version", a.opts.Version, "instance", a.opts.Journal.Instance())
	if a.opts.Started != nil {
		a.opts.Started()
	}

	var failure error
	select {
	case <-ctx.Done():
	case failure = <-linkErr:
		failure = fmt.Errorf("agent: receive orders: %w", failure)
		linkErr <- nil
	}
	// Orders are received while handlers are running: one may be a cancel.
	stuck := a.stopHandlers(giveUp)
	stopReceiving()
	if err := <-linkErr; err != nil && !errors.Is(err, context.Canceled) {
		a.opts.Log.Warn("the link ended with an error", "error", err)
	}
	stopReporting()
	others.Wait()
	flush, done := context.WithTimeout(alive, flushTimeout)
	defer done()
	a.reporter.flush(flush)
	a.opts.Log.Info("agent stopped")
	return errors.Join(failure, stuck)
}

// stopHandlers starts no more handlers, and waits for the running ones: first until
// they return, then until they are interrupted.
func (a *Agent) stopHandlers(giveUp context.CancelFunc) error {
	a.scheduler.stop()
	running, _ := a.scheduler.counts()
	a.opts.Log.Info("agent is stopping", "running", running)
	idle := make(chan struct{})
	go func() { a.scheduler.performing.Wait(); close(idle) }()
	a.scheduler.interrupt(func(as *assignment) bool { return a.opts.Handlers.Detached(as.handler) })
	if isClosedWithin(idle, a.opts.StopTimeout) {
		return nil
	}
	running = a.scheduler.interrupt(func(*assignment) bool { return true })
	a.opts.Log.Warn("assignments are still running and are interrupted", "running", running, "waited", a.opts.StopTimeout)
	if isClosedWithin(idle, a.opts.KillGrace+returnGrace) {
		return nil
	}
	giveUp()
	if isClosedWithin(idle, time.Second) {
		return nil
	}
	running, _ = a.scheduler.counts()
	a.opts.Log.Error("handlers do not return; the next start kills their processes", "running", running)
	return fmt.Errorf("agent: %d handlers did not return after they were interrupted", running)
}

// isClosedWithin reports whether a channel is closed before a timeout.
func isClosedWithin(done <-chan struct{}, timeout time.Duration) bool {
	select {
	case <-done:
		return true
	case <-time.After(timeout):
		return false
	}
}

// Alive reports whether the agent works: before ctx is done, its reporter completes a
// round, and its state and its journal can be read. The agent need not be connected. Run
// must be running.
func (a *Agent) Alive(ctx context.Context) bool {
	if !a.reporter.alive(ctx) {
		return false
	}
	a.scheduler.counts() // fails to return if the registry is locked up
	_, err := a.opts.Journal.Stats()
	return err == nil
}

const (
	sweepInterval = time.Minute
	// retention is how long an entry stays in the journal after its deadline, so that a
	// late duplicate is recognised.
	retention = time.Hour
)

// sweepJournal removes outdated entries from the journal and the registry.
func (a *Agent) sweepJournal(ctx context.Context) {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		measureJournal(a.opts)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now, ok := a.clock.now()
		if !ok {
			continue
		}
		before := now.Add(-retention)
		refs, err := a.opts.Journal.Sweep(before)
		if err != nil {
			a.opts.Log.Error("sweep the journal", "error", err)
			continue
		}
		a.registry.forget(refs, before)
	}
}

// measureJournal sets the metrics of the journal's size.
func measureJournal(opts *Options) {
	s, err := opts.Journal.Stats()
	if err != nil {
		opts.Log.Error("measure the journal", "error", err)
		return
	}
	opts.Metrics.setJournal(s)
}
