package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

// perform takes a work from the front of its line to its end. ctx is done, with
// a cause, when it is to be given up.
func (a *Agent) perform(ctx context.Context, w *work) {
	payload, err := a.payload(w)
	if err != nil {
		a.end(a.base, outcome{status: tasker.Failed, err: "the agent cannot read its journal: " + err.Error()}, w)
		return
	}
	// Checked when it was accepted, but perhaps by an earlier agent process with
	// other handlers, or not at all if it had to be held.
	if !w.reserved {
		if reason := a.unfit(w.handler, w.action, payload); reason != "" {
			a.end(a.base, outcome{status: tasker.Rejected, reason: reason}, w)
			return
		}
	}
	handler, _ := a.opts.Handlers.Lookup(w.handler)
	started := w.reserved || a.markStarting(ctx, w)
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, handlers.ErrCancelled) && !w.detached:
		a.end(a.base, outcome{status: tasker.Cancelled, reason: "cancelled before it was started"}, w)
		return
	case !started:
		return
	}
	if w.action == tasker.DryRun && !handler.Info().CanDryRun {
		a.end(a.base, outcome{status: tasker.Succeeded, reason: fmt.Sprintf("checked only: handler %q makes no plan", w.handler)}, w)
		return
	}
	a.speaker.tellShortly(w)
	a.logger(w).Info("assignment running", "handler", w.handler, "resumed", w.resumed)

	if w.timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, w.timeout, handlers.ErrTimedOut)
		defer stop()
	}
	began := a.opts.Clock()
	done := a.call(ctx, handler, w, payload)
	o, keep := done.judge(context.Cause(ctx), w.timeout, a.opts.Handlers.Restart(w.handler, w.typ))
	if keep {
		a.logger(w).Info("assignment stays in the journal, to go on at the next start")
		return
	}
	a.metrics.duration(w.typ, a.opts.Clock()-began)
	a.end(a.base, o, w)
}

// payload returns a work's payload, from the journal if it is not small.
func (a *Agent) payload(w *work) (json.RawMessage, error) {
	a.mu.Lock()
	payload := w.payload
	a.mu.Unlock()
	if len(payload) > 0 {
		return payload, nil
	}
	return a.journal.Payload(w.ref)
}

// beginLocked gives a work what it has when its handler starts, and returns the
// update that says so.
func (a *Agent) beginLocked(w *work) tasker.Update {
	w.out.Store(newOutput(w.last.OutputBytes, func() { a.speaker.tellSoon(w) }))
	w.last.Status, w.last.Reason = tasker.Running, ""
	if w.last.StartedAt == nil {
		w.last.StartedAt = a.stampLocked()
	}
	w.last.Seq = a.journal.Seq()
	return w.last
}

// markStarting records in the journal that the handler is about to start.
func (a *Agent) markStarting(ctx context.Context, w *work) bool {
	a.mu.Lock()
	u := a.beginLocked(w)
	a.mu.Unlock()
	if !a.persist(ctx, w, func() error { return a.journal.Start(u) }) {
		return false
	}
	a.mu.Lock()
	w.phase = journal.Starting
	a.mu.Unlock()
	return true
}

// persist repeats a write to the journal until it succeeds: a full disk passes.
// It gives up when ctx is done or the entry is gone.
func (a *Agent) persist(ctx context.Context, w *work, write func() error) bool {
	retry := backoff.Policy{First: 200 * time.Millisecond, Cap: 10 * time.Second}
	for tries := 0; ; tries++ {
		err := write()
		if err == nil {
			return true
		}
		a.logger(w).Error("the journal cannot be written", "error", err)
		if errors.Is(err, journal.ErrUnknown) || retry.Sleep(ctx, tries) != nil {
			return false
		}
	}
}

// call calls the handler and encodes its result; a panic is an error.
func (a *Agent) call(ctx context.Context, h handlers.Handler, w *work, payload []byte) (d done) {
	defer func() {
		if p := recover(); p != nil {
			a.logger(w).Error("handler panicked", "handler", w.handler, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			d = done{err: fmt.Errorf("handler %s panicked: %v", w.handler, p)}
		}
	}()
	a.mu.Lock()
	outputBytes := w.last.OutputBytes
	a.mu.Unlock()
	result, err := h.Handle(ctx, handlers.Call{
		TaskID: w.ref.TaskID, Identifier: w.identifier, Endpoint: a.opts.Endpoint, Type: w.typ,
		Attempt: w.ref.Attempt, Payload: payload, Action: w.action, Undoes: w.undoes, Resumed: w.resumed,
		Output: w.out.Load(), OutputBytes: outputBytes,
		Progress:      func(percent float64, message string) { a.progress(w, percent, message) },
		RecordProcess: func(p handlers.Process) error { return a.journal.Spawned(w.ref, p) },
	})
	d = done{err: err, exit: result.ExitCode}
	d.result, d.unencodable = encode(result.Value)
	return d
}

func (a *Agent) progress(w *work, percent float64, message string) {
	if !(percent > 0) { // not a number, too
		percent = 0
	}
	w.progress.Store(&tasker.Progress{Percent: min(percent, 100), Message: limit(message, maxMessage)})
	a.speaker.tellSoon(w)
}

// end gives works their final report, and says so once the journal has it.
func (a *Agent) end(ctx context.Context, o outcome, works ...*work) {
	var ending []*work
	var updates []tasker.Update
	a.mu.Lock()
	for _, w := range works {
		if w.final {
			continue
		}
		w.final = true
		u := w.last
		u.Status, u.Reason, u.Error, u.Result, u.ExitCode = o.status, o.reason, o.err, o.result, o.exit
		if w.why != "" && o.status == tasker.Cancelled {
			u.Reason = w.why
		}
		if p := w.progress.Load(); p != nil {
			u.Progress = p
		}
		u.FinishedAt, u.Seq = a.stampLocked(), a.journal.Seq()
		if out := w.out.Load(); out != nil {
			out.end(&u)
		}
		ending, updates = append(ending, w), append(updates, u)
	}
	a.mu.Unlock()
	if len(ending) == 0 || !a.persist(ctx, ending[0], func() error { return a.journal.End(updates...) }) {
		return
	}
	a.mu.Lock()
	for i, w := range ending {
		w.phase, w.last = journal.Ended, updates[i]
		if size(updates[i]) <= smallPayload {
			w.report = &updates[i]
		}
		w.last.Result, w.last.Output = nil, nil
	}
	a.mu.Unlock()
	for i, w := range ending {
		u := updates[i]
		a.metrics.finished(w.typ, u.Status)
		log := a.logger(w).With("status", u.Status, "reason", u.Reason, "error", u.Error)
		if u.StartedAt != nil && u.FinishedAt != nil {
			log = log.With("took", u.FinishedAt.Sub(*u.StartedAt))
		}
		log.Info("assignment ended")
	}
	a.speaker.tell(ending...)
}
