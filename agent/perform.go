package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

// performer calls the handlers of assignments and records how the assignments end.
type performer struct {
	*shared
	// base is done when the agent no longer waits for the journal.
	base context.Context
}

// perform takes an assignment from its run queue to its final report. ctx is done, with
// a cause, when the handler must stop.
func (p *performer) perform(ctx context.Context, a *assignment) {
	payload, err := p.payload(a)
	if err != nil {
		p.end(p.base, ending{a, outcome{status: tasker.Failed, err: "the agent cannot read its journal: " + err.Error()}})
		return
	}
	// The payload was checked when the assignment was accepted, but possibly by an
	// earlier agent process with other handlers.
	if !a.immediate {
		if reason := unsupported(p.opts.Handlers, a.handler, a.action, payload); reason != "" {
			p.end(p.base, ending{a, outcome{status: tasker.Rejected, reason: reason}})
			return
		}
	}
	handler, _ := p.opts.Handlers.Lookup(a.handler)
	recorded := a.immediate || p.recordStart(ctx, a)
	if errors.Is(context.Cause(ctx), handlers.ErrCancelled) && !a.detached {
		p.end(p.base, ending{a, notStarted()})
		return
	}
	if !recorded {
		return
	}
	if a.action == tasker.DryRun && !handler.Info().CanDryRun {
		reason := fmt.Sprintf("checked only: handler %q has no dry run", a.handler)
		p.end(p.base, ending{a, outcome{status: tasker.Succeeded, reason: reason}})
		return
	}
	p.run(ctx, handler, a, payload)
}

// run calls the handler and ends the assignment, unless it continues at the next start.
func (p *performer) run(ctx context.Context, handler handlers.Handler, a *assignment, payload []byte) {
	p.reports.addSoon(a)
	a.logger(p.opts.Log).Info("assignment running", "handler", a.handler, "resumed", a.resumed)
	if a.timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, a.timeout, handlers.ErrTimedOut)
		defer stop()
	}
	began := p.opts.Clock()
	result := p.call(ctx, handler, a, payload)
	o, ended := result.outcome(context.Cause(ctx), a.timeout, p.opts.Handlers.Restart(a.handler, a.taskType))
	if !ended {
		a.logger(p.opts.Log).Info("assignment stays in the journal, to continue at the next start")
		return
	}
	p.opts.Metrics.observeDuration(a.taskType, p.opts.Clock()-began)
	p.end(p.base, ending{a, o})
}

func (p *performer) payload(a *assignment) (json.RawMessage, error) {
	p.registry.mu.Lock()
	payload := a.payload
	p.registry.mu.Unlock()
	if len(payload) > 0 {
		return payload, nil
	}
	return p.opts.Journal.Payload(a.ref)
}

// prepareLocked prepares an assignment for the start of its handler. It returns the
// update to record and to report.
func (p *performer) prepareLocked(a *assignment) tasker.Update {
	a.output.Store(newOutput(a.update.OutputBytes, func() { p.reports.addProgress(a) }))
	a.update.Status, a.update.Reason = tasker.Running, ""
	if a.update.StartedAt == nil {
		a.update.StartedAt = p.clock.stamp()
	}
	a.update.Seq = p.opts.Journal.Seq()
	return a.update
}

// recordStart records in the journal that the handler is about to start. It reports
// whether it succeeded.
func (p *performer) recordStart(ctx context.Context, a *assignment) bool {
	p.registry.mu.Lock()
	u := p.prepareLocked(a)
	p.registry.mu.Unlock()
	if !writeUntilDone(ctx, a.logger(p.opts.Log), func() error { return p.opts.Journal.Start(u) }) {
		return false
	}
	p.registry.mu.Lock()
	a.phase = journal.Starting
	p.registry.mu.Unlock()
	return true
}

// writeUntilDone repeats a write to the journal until it succeeds, because the disk may
// be full for a time. It gives up when ctx is done or the journal lacks the entry.
func writeUntilDone(ctx context.Context, log *slog.Logger, write func() error) bool {
	retry := backoff.Policy{First: 200 * time.Millisecond, Cap: 10 * time.Second}
	for tries := 0; ; tries++ {
		err := write()
		if err == nil {
			return true
		}
		log.Error("cannot write to the journal", "error", err)
		if errors.Is(err, journal.ErrUnknown) || retry.Sleep(ctx, tries) != nil {
			return false
		}
	}
}

// call calls the handler and encodes its result. It turns a panic into an error.
func (p *performer) call(ctx context.Context, h handlers.Handler, a *assignment, payload []byte) (r handlerResult) {
	defer func() {
		if v := recover(); v != nil {
			a.logger(p.opts.Log).Error("handler panicked", "handler", a.handler, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			r = handlerResult{err: fmt.Errorf("handler %s panicked: %v", a.handler, v)}
		}
	}()
	p.registry.mu.Lock()
	outputBytes := a.update.OutputBytes
	p.registry.mu.Unlock()
	result, err := h.Handle(ctx, handlers.Call{
		TaskID: a.ref.TaskID, Identifier: a.identifier, Endpoint: p.opts.Endpoint, Type: a.taskType,
		Attempt: a.ref.Attempt, Payload: payload, Action: a.action, Undoes: a.undoes, Resumed: a.resumed,
		Output: a.output.Load(), OutputBytes: outputBytes,
		Progress:      func(percent float64, message string) { p.setProgress(a, percent, message) },
		RecordProcess: func(process handlers.Process) error { return p.opts.Journal.AddProcess(a.ref, process) },
	})
	r = handlerResult{err: err, exitCode: result.ExitCode}
	r.result, r.encodeErr = encode(result.Value)
	return r
}

func (p *performer) setProgress(a *assignment, percent float64, message string) {
	if !(percent > 0) { // also true for NaN
		percent = 0
	}
	a.progress.Store(&tasker.Progress{Percent: min(percent, 100), Message: limit(message, maxMessage)})
	p.reports.addProgress(a)
}

// ending is an assignment and its outcome.
type ending struct {
	assignment *assignment
	outcome    outcome
}

// end records the final updates of assignments in one transaction, and reports them
// afterwards. It ignores assignments that have ended before.
func (p *performer) end(ctx context.Context, endings ...ending) {
	var ended []*assignment
	var updates []tasker.Update
	p.registry.mu.Lock()
	for _, e := range endings {
		if !e.assignment.ended {
			ended, updates = append(ended, e.assignment), append(updates, p.finalUpdateLocked(e))
		}
	}
	p.registry.mu.Unlock()
	if len(ended) == 0 || !writeUntilDone(ctx, ended[0].logger(p.opts.Log), func() error { return p.opts.Journal.End(updates...) }) {
		return
	}
	p.registry.mu.Lock()
	for i, a := range ended {
		a.phase, a.update = journal.Ended, updates[i]
		if size(updates[i]) <= smallPayload {
			a.finalUpdate = &updates[i]
		}
		a.update.Result, a.update.Output = nil, nil
	}
	p.registry.mu.Unlock()
	for i, a := range ended {
		u := updates[i]
		p.opts.Metrics.countEnded(a.taskType, u.Status)
		log := a.logger(p.opts.Log).With("status", u.Status, "reason", u.Reason, "error", u.Error)
		if u.StartedAt != nil && u.FinishedAt != nil {
			log = log.With("took", u.FinishedAt.Sub(*u.StartedAt))
		}
		log.Info("assignment ended")
	}
	p.reports.add(ended...)
}

// finalUpdateLocked marks an assignment as ended and returns its final update.
func (p *performer) finalUpdateLocked(e ending) tasker.Update {
	a, o := e.assignment, e.outcome
	a.ended = true
	u := a.update
	u.Status, u.Reason, u.Error, u.Result, u.ExitCode = o.status, o.reason, o.err, o.result, o.exitCode
	if a.cancelReason != "" && o.status == tasker.Cancelled {
		u.Reason = a.cancelReason
	}
	if progress := a.progress.Load(); progress != nil {
		u.Progress = progress
	}
	u.FinishedAt, u.Seq = p.clock.stamp(), p.opts.Journal.Seq()
	if out := a.output.Load(); out != nil {
		out.close(&u)
	}
	return u
}
