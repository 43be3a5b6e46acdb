package agent

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/shirou/gopsutil/v4/load"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

const (
	// sendTimeout bounds one attempt to send.
	sendTimeout      = 30 * time.Second
	defaultHeartbeat = 10 * time.Second
	minHeartbeat     = 100 * time.Millisecond
)

// reporter sends all reports of the agent, in one goroutine. It must be one: a hello
// lists the unfinished assignments, and the control plane counts those that are missing
// as lost. So no report of a later assignment may overtake a hello.
type reporter struct {
	*shared
	scheduler *scheduler
	updates   *updateSender
	// probe is received from in every round of run.
	probe chan struct{}
	// metricsAddress is used by the goroutine of run only.
	metricsAddress string

	mu sync.Mutex
	// session is the id of the current session; empty before the first one.
	session string
	// helloSent means that the hello of the session was sent, welcomed that it was
	// answered.
	helloSent, welcomed bool
	// hellos counts the hellos of the session, firstHello is the time since boot of the
	// first.
	hellos               int
	firstHello           time.Duration
	helloAt, heartbeatAt time.Time
	heartbeat            time.Duration
	// problem is why the last order was not accepted, at problemAt.
	problem   string
	problemAt time.Time
}

// problemLifetime is how long a problem is reported after it was last seen. The transport
// delivers an order that was not accepted again well within it.
const problemLifetime = time.Minute

// setProblem records why an order was not accepted; nil clears it. A change is reported at
// once, because the control plane names it as the reason of a missing response.
func (r *reporter) setProblem(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.problem
	r.problem, r.problemAt = "", time.Now()
	if err != nil {
		r.problem = "the agent cannot write its journal: " + err.Error()
	}
	if r.problem != before && r.welcomed {
		r.heartbeatAt = time.Now()
		r.reports.wakeReporter()
	}
}

// beginSession begins a session with a hello: the link has connected, or the agent
// requests the control plane's time.
func (r *reporter) beginSession() {
	r.mu.Lock()
	r.session = uuid.NewString()
	r.helloSent, r.welcomed, r.hellos = false, false, 0
	r.helloAt = time.Now()
	r.mu.Unlock()
	r.reports.skipBackOff()
	r.reports.wakeReporter()
}

// welcome takes over the heartbeat interval of a welcome. It reports whether the
// welcome is the first answer to the hellos of this session, and returns its delay after the
// first of them. Only the first one sets the time: later ones may have been delayed.
func (r *reporter) welcome(w tasker.Welcome) (delay time.Duration, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w.Session != r.session || r.session == "" || w.Now.IsZero() {
		r.opts.Log.Debug("stale welcome ignored", "session", w.Session)
		return 0, false
	}
	first = !r.welcomed
	if first {
		r.opts.Log.Info("welcomed by the control plane", "heartbeat", w.Heartbeat.D(), "now", w.Now)
	}
	r.welcomed = true
	r.heartbeat = w.Heartbeat.D()
	if r.heartbeat <= 0 {
		r.heartbeat = defaultHeartbeat
	}
	r.heartbeat = max(r.heartbeat, minHeartbeat)
	// A random moment spreads the heartbeats of agents that connect together.
	r.heartbeatAt = time.Now().Add(rand.N(r.heartbeat))
	r.opts.Metrics.setWelcome(w.Now)
	r.reports.wakeReporter()
	return r.opts.Clock() - r.firstHello, first
}

// run sends reports until ctx is done.
func (r *reporter) run(ctx context.Context) {
	timer := time.NewTimer(never)
	defer timer.Stop()
	for ctx.Err() == nil {
		r.sendDue(ctx)
		timer.Reset(max(0, time.Until(r.next())))
		select {
		case <-ctx.Done():
		case <-r.reports.wake:
		case <-r.probe:
		case <-timer.C:
		}
	}
}

// alive reports whether run completes a round before ctx is done. A round may take
// sendTimeout or longer.
func (r *reporter) alive(ctx context.Context) bool {
	select {
	case r.probe <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// sendDue sends what is due: a hello, a heartbeat and a batch of updates.
func (r *reporter) sendDue(ctx context.Context) {
	now := time.Now()
	r.mu.Lock()
	hello := r.session != "" && !r.welcomed && !now.Before(r.helloAt)
	heartbeat := r.welcomed && !now.Before(r.heartbeatAt)
	r.mu.Unlock()
	if hello {
		r.sendHello(ctx)
	}
	if heartbeat {
		r.sendHeartbeat(ctx)
	}
	r.sendUpdates(ctx)
}

// next returns when something is due.
func (r *reporter) next() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := time.Now().Add(never)
	switch {
	case r.session == "":
	case r.welcomed:
		next = r.heartbeatAt
	default:
		next = r.helloAt
	}
	if at := r.reports.next(); r.helloSent && at.Before(next) {
		return at
	}
	return next
}

// sendHello sends a hello. It is repeated until it is answered.
func (r *reporter) sendHello(ctx context.Context) {
	r.mu.Lock()
	session, hellos := r.session, r.hellos
	if hellos == 0 {
		r.firstHello = r.opts.Clock()
	}
	r.hellos++
	r.helloAt = time.Now().Add(backoff.Policy{First: 15 * time.Second, Cap: time.Minute}.Wait(hellos))
	r.mu.Unlock()
	if r.opts.MetricsAddress != nil {
		r.metricsAddress = r.opts.MetricsAddress(ctx)
	}
	err := sendReports(ctx, r.opts, tasker.Report{Hello: &tasker.Hello{
		Presence: r.presence(), Session: session, Unfinished: r.registry.unfinished(),
	}})
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		r.helloSent = r.helloSent || r.session == session
	case r.session == session:
		r.helloAt = time.Now().Add(resendDelay(hellos))
		r.opts.Log.Warn("hello not sent; it will be repeated", "error", err)
	}
}

func (r *reporter) sendHeartbeat(ctx context.Context) {
	r.mu.Lock()
	// Up to a tenth earlier, which spreads the heartbeats of agents that began together.
	r.heartbeatAt = time.Now().Add(r.heartbeat - rand.N(r.heartbeat/10+1))
	r.mu.Unlock()
	err := sendReports(ctx, r.opts, tasker.Report{Heartbeat: &tasker.Heartbeat{Presence: r.presence()}})
	r.opts.Metrics.countHeartbeat(err)
	if err != nil {
		r.opts.Log.Debug("heartbeat not sent", "error", err)
	}
	measureJournal(r.opts)
}

// presence describes the agent as it is now.
func (r *reporter) presence() tasker.Presence {
	running, waiting := r.scheduler.counts()
	r.mu.Lock()
	heartbeat, problem := r.heartbeat, r.problem
	if time.Since(r.problemAt) > problemLifetime {
		problem = ""
	}
	r.mu.Unlock()
	p := tasker.Presence{
		Version: r.opts.Version, Labels: r.opts.Labels,
		Handlers: r.opts.Handlers.Names(), Scripts: r.opts.Handlers.Scripts(),
		Metrics: r.metricsAddress, Running: running, Waiting: waiting,
		Heartbeat: tasker.Duration(heartbeat), Duplicate: r.opts.Connection.isContested(), Key: r.keys.newest(), Problem: problem,
	}
	if avg, err := load.Avg(); err == nil {
		p.Load = avg.Load1
	}
	return p
}

// sendUpdates sends a batch of updates that are due, once the hello was sent. It reports
// whether there was one.
func (r *reporter) sendUpdates(ctx context.Context) bool {
	r.mu.Lock()
	helloSent := r.helloSent
	r.mu.Unlock()
	if !helloSent {
		return false
	}
	due := r.reports.take(time.Now())
	if len(due) > 0 {
		r.updates.send(ctx, due)
	}
	return len(due) > 0
}

// flush sends all updates that are queued, and a goodbye, until ctx is done. It is
// called after run.
func (r *reporter) flush(ctx context.Context) {
	for {
		r.reports.skipDelays()
		if !r.sendUpdates(ctx) {
			break
		}
		_, failures := r.reports.pending()
		if failures > 0 && (backoff.Policy{First: 200 * time.Millisecond, Cap: time.Second}).Sleep(ctx, failures) != nil {
			break
		}
	}
	if due, _ := r.reports.pending(); due > 0 {
		r.opts.Log.Warn("reports are left in the journal, to be sent at the next start", "reports", due)
	}
	if !r.helloSent {
		return
	}
	if err := sendReports(ctx, r.opts, tasker.Report{Goodbye: &tasker.Goodbye{}}); err != nil {
		r.opts.Log.Debug("goodbye not sent", "error", err)
	}
}

// sendReports sends reports in the agent's name.
func sendReports(ctx context.Context, opts *Options, reports ...tasker.Report) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	for i := range reports {
		reports[i].Version = tasker.WireVersion
		reports[i].Endpoint, reports[i].Instance = opts.Endpoint, opts.Journal.Instance()
	}
	err := opts.Link.Send(ctx, reports...)
	switch {
	case err == nil:
		opts.Metrics.setConnected(true)
	case errors.Is(err, transport.ErrUnavailable), errors.Is(err, transport.ErrClosed):
		opts.Metrics.setConnected(false)
	}
	return err
}
