package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

// restarter decides the next step of the assignments that the agent finds in the journal
// at its start, and of those that arrive before the control plane's time is known. Then
// it lets handlers start.
type restarter struct {
	*shared
	scheduler *scheduler
	performer *performer
}

// load reads the journal into the registry.
func (r *restarter) load() error {
	entries, err := r.opts.Journal.Entries()
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	tombstones, err := r.opts.Journal.Tombstones()
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	r.registry.mu.Lock()
	defer r.registry.mu.Unlock()
	for _, s := range tombstones {
		r.registry.addTombstoneLocked(s)
	}
	for _, e := range entries {
		a := loadAssignment(e)
		a.arrivedAt = r.opts.Clock()
		r.registry.addLocked(a)
		switch {
		case e.Phase == journal.Accepted:
			r.scheduler.pushLocked(a)
			r.reports.add(a)
		case e.Phase == journal.Ended && !e.Confirmed:
			r.reports.add(a)
		}
	}
	return nil
}

// run opens the scheduler once the control plane's time is known and no process of an
// earlier agent process is left. handlerBase is the context of the handlers.
func (r *restarter) run(ctx, handlerBase context.Context) {
	r.registry.mu.Lock()
	leftovers := r.registry.selectLocked(func(a *assignment) bool { return a.phase == journal.Starting })
	r.registry.mu.Unlock()
	var killing sync.WaitGroup
	killing.Go(func() { r.killProcesses(ctx, leftovers) })
	defer killing.Wait()
	select {
	case <-r.clock.known:
	case <-ctx.Done():
		return
	}
	if !r.admitHeld(ctx) {
		return
	}
	killing.Wait()
	if ctx.Err() != nil {
		return
	}
	r.resume(ctx, leftovers)
	r.scheduler.open(handlerBase)
}

// killTries bounds the attempts to kill the processes of one assignment.
const killTries = 3

// killProcesses kills the processes of leftovers, and keeps the reason where it fails.
func (r *restarter) killProcesses(ctx context.Context, leftovers []*assignment) {
	if r.opts.Leftovers == nil {
		return
	}
	var all sync.WaitGroup
	for _, a := range leftovers {
		all.Go(func() {
			retry := backoff.Policy{First: time.Second, Cap: 10 * time.Second}
			for tries := range killTries {
				err := r.opts.Leftovers.Kill(ctx, a.processes, a.ref.TaskID)
				if ctx.Err() != nil {
					return
				}
				a.killErr = err
				if err == nil {
					return
				}
				a.logger(r.opts.Log).Error("cannot kill the processes that an earlier agent has started", "try", tries+1, "of", killTries, "error", err)
				if tries+1 < killTries && retry.Sleep(ctx, tries) != nil {
					return
				}
			}
		})
	}
	all.Wait()
}

// admitHeld checks the deadlines of the held assignments, and queues those in time. It
// reports whether the journal has recorded that.
func (r *restarter) admitHeld(ctx context.Context) bool {
	var admitted, expired []*assignment
	var updates []tasker.Update
	var refs []journal.Ref
	r.registry.mu.Lock()
	for _, a := range r.registry.selectLocked(func(a *assignment) bool { return a.phase == journal.Held }) {
		arrival, _ := r.clock.at(a.arrivedAt)
		late := !a.deadline.IsZero() && r.clock.isPast(a.deadline, a.arrivedAt)
		if a.deadline.IsZero() {
			a.deadline = arrival
		}
		d := decide(facts{phase: journal.Held, timeKnown: true, late: late})
		if d.action == actionDrop {
			expired, refs = append(expired, a), append(refs, a.ref)
			continue
		}
		a.update.ReceivedAt, a.update.Seq = &arrival, r.opts.Journal.Seq()
		admitted, updates = append(admitted, a), append(updates, a.update)
	}
	r.registry.mu.Unlock()
	if !writeUntilDone(ctx, r.opts.Log, func() error { return r.opts.Journal.Admit(updates, refs) }) {
		return false
	}
	r.opts.Metrics.countOrders(outcomeAccepted, len(admitted))
	r.opts.Metrics.countOrders(outcomeExpired, len(expired))
	r.registry.forget(refs, time.Time{})
	for _, a := range expired {
		a.logger(r.opts.Log).Warn("assignment arrived after its deadline", "deadline", a.deadline)
	}
	r.registry.mu.Lock()
	for _, a := range admitted {
		a.phase = journal.Accepted
		r.scheduler.pushLocked(a)
	}
	r.registry.mu.Unlock()
	r.endUnstartable(ctx)
	r.reports.add(admitted...)
	return true
}

// resume ends or queues the leftovers.
func (r *restarter) resume(ctx context.Context, leftovers []*assignment) {
	for _, a := range leftovers {
		f := facts{
			phase: journal.Starting, restart: r.opts.Handlers.Restart(a.handler, a.taskType),
			detached: r.opts.Handlers.Detached(a.handler), killErr: a.killErr,
		}
		r.registry.mu.Lock()
		// The output after the last report is lost.
		a.update.OutputTruncated = a.update.OutputBytes > 0
		d := r.decideLocked(a, f)
		if d.action != actionEnd {
			a.resumed = d.action == actionResume || d.action == actionReattach
			a.detached = d.action == actionReattach
			r.scheduler.pushLocked(a)
		}
		r.registry.mu.Unlock()
		if d.action == actionEnd {
			r.performer.end(ctx, ending{a, outcome{status: d.status, reason: d.reason}})
		}
	}
	r.endUnstartable(ctx)
}

// endUnstartable ends the queued assignments that must not start. They were cancelled,
// replaced or refused before the agent could end them.
func (r *restarter) endUnstartable(ctx context.Context) {
	var endings []ending
	r.registry.mu.Lock()
	for _, a := range r.registry.selectLocked(func(a *assignment) bool { return a.waiting && !a.detached }) {
		if d := r.decideLocked(a, facts{phase: journal.Accepted}); d.action == actionEnd {
			r.scheduler.removeLocked(a)
			endings = append(endings, ending{a, outcome{status: d.status, reason: d.reason}})
		}
	}
	r.registry.mu.Unlock()
	r.performer.end(ctx, endings...)
}

// decideLocked decides the next step of an assignment, by the facts and by those that the
// registry has.
func (r *restarter) decideLocked(a *assignment, f facts) decision {
	t := r.registry.tasks[a.ref.TaskID]
	f.attempt, f.latest, f.tombstone = a.ref.Attempt, t.latest(), t.tombstone
	f.refusal = func() string { return a.update.Reason }
	return decide(f)
}
