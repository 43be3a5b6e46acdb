package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

// restore takes over what the journal holds.
func (a *Agent) restore() error {
	entries, err := a.journal.Entries()
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	stones, err := a.journal.Tombstones()
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range stones {
		if t := a.taskLocked(s.TaskID); s.Attempt > t.stone {
			t.stone, t.stoneDeadline = s.Attempt, s.Deadline
		}
	}
	for _, e := range entries {
		w := &work{
			ref: e.Ref(), identifier: e.Identifier, typ: e.Type, handler: e.Handler, timeout: e.Timeout.D(), action: e.Action, undoes: e.Undoes,
			deadline: e.Deadline, phase: e.Phase, last: e.Last, arrived: a.opts.Clock(),
			final: e.Phase == journal.Ended, confirmed: e.Confirmed, processes: e.Processes,
		}
		a.addLocked(w)
		switch {
		case e.Phase == journal.Accepted:
			a.enqueueLocked(w)
			a.speaker.tell(w)
		case e.Phase == journal.Ended && !e.Confirmed:
			a.speaker.tell(w)
		}
	}
	return nil
}

// begin lets handlers be started, once nothing is left of an earlier agent
// process and the control plane's time is known.
func (a *Agent) begin(ctx context.Context) {
	leftovers := a.leftovers()
	var killing sync.WaitGroup
	killing.Go(func() { a.kill(ctx, leftovers) })
	defer killing.Wait()
	select {
	case <-a.welcomed:
	case <-ctx.Done():
		return
	}
	if !a.insist(ctx, a.admit) {
		return
	}
	killing.Wait()
	if ctx.Err() != nil {
		return
	}
	a.takeUp(ctx, leftovers)

	a.mu.Lock()
	a.open = true
	types := make([]string, 0, len(a.lines))
	for typ := range a.lines {
		types = append(types, typ)
	}
	a.mu.Unlock()
	a.schedule(types...)
}

// insist repeats what depends on the journal until it succeeds.
func (a *Agent) insist(ctx context.Context, do func() error) bool {
	retry := backoff.Policy{First: 200 * time.Millisecond, Cap: 10 * time.Second}
	for tries := 0; ; tries++ {
		err := do()
		if err == nil {
			return true
		}
		a.log.Error("the journal cannot be written", "error", err)
		if retry.Sleep(ctx, tries) != nil {
			return false
		}
	}
}

// leftovers are the works that an earlier agent process had started.
func (a *Agent) leftovers() []*work {
	a.mu.Lock()
	defer a.mu.Unlock()
	var left []*work
	for _, t := range a.tasks {
		for _, w := range t.works {
			if w.phase == journal.Starting {
				left = append(left, w)
			}
		}
	}
	return left
}

// killTries bounds the attempts to end what was left of one assignment.
const killTries = 3

// kill ends the processes of leftovers, and keeps the reason where it could not.
func (a *Agent) kill(ctx context.Context, left []*work) {
	if a.opts.Leftovers == nil {
		return
	}
	var all sync.WaitGroup
	for _, w := range left {
		all.Go(func() {
			retry := backoff.Policy{First: time.Second, Cap: 10 * time.Second}
			for tries := range killTries {
				err := a.opts.Leftovers.Kill(ctx, w.processes, w.ref.TaskID)
				if ctx.Err() != nil {
					return
				}
				w.unended = err
				if err == nil {
					return
				}
				a.logger(w).Error("what an earlier agent had started cannot be ended", "try", tries+1, "of", killTries, "error", err)
				if tries+1 < killTries && retry.Sleep(ctx, tries) != nil {
					return
				}
			}
		})
	}
	all.Wait()
}

// takeUp decides what becomes of leftovers: cancelled if that was asked for,
// else what the handler's restart contract says.
func (a *Agent) takeUp(ctx context.Context, left []*work) {
	for _, w := range left {
		a.mu.Lock()
		cancelled := a.tasks[w.ref.TaskID].stone >= w.ref.Attempt
		replaced := a.tasks[w.ref.TaskID].seen() > w.ref.Attempt
		// What was printed after the last report is lost.
		w.last.OutputTruncated = w.last.OutputBytes > 0
		a.mu.Unlock()
		restart := a.opts.Handlers.Restart(w.handler, w.typ)
		o := outcome{status: tasker.Interrupted, reason: "agent was restarted"}
		switch {
		case w.unended != nil:
			o.reason = "agent was restarted, and cannot end what it had started: " + limit(w.unended.Error(), maxMessage)
		case a.opts.Handlers.Detached(w.handler):
			a.mu.Lock()
			w.resumed, w.detached = true, true
			a.enqueueLocked(w)
			a.mu.Unlock()
			continue
		case cancelled || replaced:
			o.status, o.reason = tasker.Cancelled, "cancelled while it was running"
		case restart == handlers.RestartRetry || restart == handlers.RestartResume:
			a.mu.Lock()
			w.resumed = restart == handlers.RestartResume
			a.enqueueLocked(w)
			a.mu.Unlock()
			continue
		}
		a.end(ctx, o, w)
	}
	a.dismiss()
}

// dismiss ends the waiting works that are not to be started after all: they
// were cancelled, replaced, or found unfit, by an agent that could not say so then.
func (a *Agent) dismiss() {
	var cancelled []*work
	refused := map[*work]string{}
	a.mu.Lock()
	for _, t := range a.tasks {
		for _, w := range t.works {
			switch {
			case !w.waiting || w.detached:
				continue
			case t.stone >= w.ref.Attempt:
				cancelled = append(cancelled, w)
			case t.seen() > w.ref.Attempt:
				w.why = replacedBy(t.seen())
				cancelled = append(cancelled, w)
			case w.last.Reason != "":
				refused[w] = w.last.Reason
			default:
				continue
			}
			a.dequeueLocked(w)
		}
	}
	a.mu.Unlock()
	a.end(a.base, outcome{status: tasker.Cancelled, reason: "cancelled before it was started"}, cancelled...)
	for w, reason := range refused {
		a.end(a.base, outcome{status: tasker.Rejected, reason: reason}, w)
	}
}

// admit checks the deadlines of the works that came before the first welcome.
func (a *Agent) admit() error {
	var admitted, expired []*work
	var updates []tasker.Update
	var gone []journal.Ref
	a.mu.Lock()
	for _, t := range a.tasks {
		for _, w := range t.works {
			if w.phase != journal.Held {
				continue
			}
			at, _ := a.timeAtLocked(w.arrived)
			if w.deadline.IsZero() {
				w.deadline = at
			}
			if at.After(w.deadline) {
				expired, gone = append(expired, w), append(gone, w.ref)
				continue
			}
			w.last.ReceivedAt, w.last.Seq = &at, a.journal.Seq()
			admitted, updates = append(admitted, w), append(updates, w.last)
		}
	}
	a.mu.Unlock()
	if err := a.journal.Drop(gone...); err != nil {
		return err
	}
	if err := a.journal.Admit(updates...); err != nil {
		return err
	}
	a.forget(gone, time.Time{})
	for _, w := range expired {
		a.metrics.orders(outcomeExpired, 1)
		a.logger(w).Warn("assignment came after its deadline", "deadline", w.deadline)
	}
	a.mu.Lock()
	for _, w := range admitted {
		w.phase = journal.Accepted
		a.enqueueLocked(w)
	}
	a.mu.Unlock()
	for range admitted {
		a.metrics.orders(outcomeAccepted, 1)
	}
	a.dismiss()
	a.speaker.tell(admitted...)
	return nil
}
