// Package agent performs the assignments of one endpoint: it takes orders from
// a transport, records them in its journal before it acknowledges them, runs
// the handlers within bounds, and reports what became of each assignment until
// the control plane has it.
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
	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// Agent performs the assignments of one endpoint.
type Agent struct {
	opts    Options
	link    transport.Link
	journal *journal.Journal
	log     *slog.Logger
	metrics *Metrics
	speaker *speaker

	// welcomed is closed when the control plane's time is first known.
	welcomed     chan struct{}
	welcomedOnce sync.Once

	// performers are the goroutines in which handlers run; giveUp ends their
	// attempts to write to the journal, the last thing that may hold them.
	performers sync.WaitGroup
	base       context.Context
	giveUp     context.CancelFunc

	mu sync.Mutex
	// tasks are the assignments in the journal, by task; lines are those
	// waiting or running, by type.
	tasks map[string]*task
	lines map[string]*line
	// order numbers the works as they were accepted.
	order uint64
	// offset is the control plane's time at the zero of the clock.
	offset time.Time
	// doubted: it was asked for anew, last when the clock said doubtedAt.
	doubted   bool
	doubtedAt time.Duration
	// refusals says when the refusal of a kind of orders was logged last.
	refusals map[string]time.Duration
	// open: handlers may be started.
	open, stopping bool
}

// New makes an Agent; Run starts it.
func New(opts Options) (*Agent, error) {
	if err := tasker.ValidateEndpoint(opts.Endpoint); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	if opts.Link == nil || opts.Journal == nil || opts.Handlers == nil {
		return nil, errors.New("agent: Link, Journal and Handlers are needed")
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
		opts.Clock = sinceBoot()
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Metrics == nil {
		opts.Metrics = NewMetrics(prometheus.NewRegistry())
	}
	a := &Agent{
		opts: opts, link: opts.Link, journal: opts.Journal, metrics: opts.Metrics,
		log:      opts.Log.With("endpoint", opts.Endpoint),
		welcomed: make(chan struct{}),
		tasks:    map[string]*task{},
		lines:    map[string]*line{},
		refusals: map[string]time.Duration{},
	}
	a.speaker = newSpeaker(a)
	return a, nil
}

// Run performs assignments until ctx is done; it is called once. Then it starts
// no more, waits up to StopTimeout for those that run before it ends them, and
// sends what there is to report. What has not been started stays in the journal
// for the next start. Run returns nil after such a stop, and an error when the
// journal cannot be read, the link gave up, or a handler does not return.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.restore(); err != nil {
		return err
	}
	a.metrics.build(a.opts.Version)
	alive := context.WithoutCancel(ctx)
	a.base, a.giveUp = context.WithCancel(alive)
	defer a.giveUp()
	receiving, stopReceiving := context.WithCancel(alive)
	defer stopReceiving()
	speaking, stopSpeaking := context.WithCancel(alive)
	defer stopSpeaking()

	received := make(chan error, 1)
	go func() { received <- a.link.Receive(receiving, a.receive) }()
	var others sync.WaitGroup
	others.Go(func() { a.speaker.run(speaking) })
	others.Go(func() { a.begin(receiving) })
	others.Go(func() { a.sweep(receiving) })
	a.log.Info("agent started", "version", a.opts.Version, "instance", a.journal.Instance())
	if a.opts.Started != nil {
		a.opts.Started()
	}

	var failed error
	select {
	case <-ctx.Done():
	case failed = <-received:
		failed = fmt.Errorf("agent: receive orders: %w", failed)
		received <- nil
	}
	// Orders are taken while handlers are waited for: a cancel may be among them.
	stuck := a.drain()
	stopReceiving()
	if err := <-received; err != nil && !errors.Is(err, context.Canceled) {
		a.log.Warn("the link ended with an error", "error", err)
	}
	stopSpeaking()
	others.Wait()
	flush, done := context.WithTimeout(alive, flushTimeout)
	defer done()
	a.speaker.flush(flush)
	a.log.Info("agent stopped")
	return errors.Join(failed, stuck)
}

// Alive says whether the agent is well before ctx is done: its goroutine that
// reports comes round, and its state and its journal can be read. Whether it is
// connected does not matter. It holds while Run runs.
func (a *Agent) Alive(ctx context.Context) bool {
	if !a.speaker.alive(ctx) {
		return false
	}
	a.count()
	_, err := a.journal.Stats()
	return err == nil
}

// drain stops starting handlers and waits for those that run, at first for them
// to be done, then for them to be ended.
func (a *Agent) drain() error {
	a.mu.Lock()
	a.stopping = true
	a.mu.Unlock()
	a.log.Info("agent is stopping", "running", a.count().running)
	idle := make(chan struct{})
	go func() { a.performers.Wait(); close(idle) }()
	a.endRunning(func(w *work) bool { return a.opts.Handlers.Detached(w.handler) })
	if within(idle, a.opts.StopTimeout) {
		return nil
	}
	n := a.endRunning(func(*work) bool { return true })
	a.log.Warn("assignments still run and are ended", "running", n, "waited", a.opts.StopTimeout)
	if within(idle, a.opts.KillGrace+returnGrace) {
		return nil
	}
	a.giveUp()
	if within(idle, time.Second) {
		return nil
	}
	n = a.count().running
	a.log.Error("handlers do not return; what they have started is ended at the next start", "running", n)
	return fmt.Errorf("agent: %d handlers did not return after they were told to stop", n)
}

func within(done <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// sweepEvery is how often the journal is swept, keepFor how long an entry is
// kept past its deadline, so that a late duplicate finds it.
const (
	sweepEvery = time.Minute
	keepFor    = time.Hour
)

// sweep forgets, from time to time, what is of no more use.
func (a *Agent) sweep(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		a.measure()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now, ok := a.now()
		if !ok {
			continue
		}
		before := now.Add(-keepFor)
		gone, err := a.journal.Sweep(before)
		if err != nil {
			a.log.Error("sweep the journal", "error", err)
			continue
		}
		a.forget(gone, before)
	}
}

func (a *Agent) measure() {
	s, err := a.journal.Stats()
	if err != nil {
		a.log.Error("measure the journal", "error", err)
		return
	}
	a.metrics.journal(s)
}
