package agent

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// work is one assignment in memory. A payload that is not small, and a result and
// the output of an ended one likewise, are in the journal only.
type work struct {
	ref        journal.Ref
	identifier string
	typ        string
	handler    string
	timeout    time.Duration
	// action is what is asked for, undoes the task to undo.
	action tasker.Action
	undoes string
	// payload is kept until the handler has it; empty: it is in the journal only.
	payload json.RawMessage
	// reserved: it was accepted and started in one; its place in its line is taken,
	// and it has one of the performers, before it is known to others.
	reserved bool

	// The rest is guarded by Agent.mu, where nothing else is said.
	deadline time.Time
	order    uint64
	phase    journal.Phase
	// last is the state to be reported, without result and output.
	last tasker.Update
	// arrived is the clock at the arrival of an assignment that is held.
	arrived time.Duration
	// report is the final update until it is handed over, if it is small; else it is
	// in the journal only.
	report *tasker.Update
	// final: the final update was made, so no other one may be.
	final bool
	// confirmed: the final update was handed over.
	confirmed bool
	// waiting: it stands in its line. cancel is set while it is performed.
	waiting bool
	cancel  context.CancelCauseFunc
	// why is for people: the reason of a cancel.
	why string
	// processes are left from an earlier agent process, unended says why they
	// could not be ended; resumed: the handler was started by that process.
	processes []handlers.Process
	unended   error
	resumed   bool
	// detached: what that process had started may still run, and only the handler
	// can end it.
	detached bool

	// out is set while it is performed; both are safe for concurrent use.
	out      atomic.Pointer[output]
	progress atomic.Pointer[tasker.Progress]
	// told: it is among what the speaker says soon.
	told atomic.Bool
	// urgent and begun, guarded by the speaker's mutex: it is among what is said
	// now, or in a moment.
	urgent, begun bool
}

// task is what is known of a task's assignments to this endpoint.
type task struct {
	// works are the attempts in the journal, in their order.
	works []*work
	// stone is the highest attempt that was cancelled, stoneDeadline its deadline.
	stone         int
	stoneDeadline time.Time
	// busy: an attempt is performed; another one waits for its end.
	busy bool
}

// seen is the highest attempt that was accepted.
func (t *task) seen() int {
	if t == nil || len(t.works) == 0 {
		return 0
	}
	return t.works[len(t.works)-1].ref.Attempt
}

func (t *task) find(attempt int) *work {
	if t == nil {
		return nil
	}
	for _, w := range t.works {
		if w.ref.Attempt == attempt {
			return w
		}
	}
	return nil
}

// line are the works of one type that wait or run.
type line struct {
	waiting []*work
	running int
}

// logger is the agent's logger for lines about this work.
func (a *Agent) logger(w *work) *slog.Logger {
	return a.log.With("task", w.ref.TaskID, "identifier", w.identifier, "type", w.typ, "attempt", w.ref.Attempt)
}

func (a *Agent) taskLocked(id string) *task {
	t := a.tasks[id]
	if t == nil {
		t = &task{}
		a.tasks[id] = t
	}
	return t
}

// addLocked takes a work that is in the journal into memory.
func (a *Agent) addLocked(w *work) {
	a.order++
	w.order = a.order
	t := a.taskLocked(w.ref.TaskID)
	t.works = append(t.works, w)
	slices.SortFunc(t.works, func(x, y *work) int { return x.ref.Attempt - y.ref.Attempt })
}

func (a *Agent) lineLocked(typ string) *line {
	l := a.lines[typ]
	if l == nil {
		l = &line{}
		a.lines[typ] = l
	}
	return l
}

// enqueueLocked puts a work into the line of its type, by order.
func (a *Agent) enqueueLocked(w *work) {
	l := a.lineLocked(w.typ)
	w.waiting = true
	l.waiting = append(l.waiting, w)
	if n := len(l.waiting); n > 1 && l.waiting[n-2].order > w.order {
		slices.SortFunc(l.waiting, func(x, y *work) int { return int(int64(x.order) - int64(y.order)) })
	}
	a.metrics.line(w.typ, l)
}

func (a *Agent) dequeueLocked(w *work) {
	l := a.lines[w.typ]
	w.waiting = false
	l.waiting = slices.DeleteFunc(l.waiting, func(x *work) bool { return x == w })
	a.metrics.line(w.typ, l)
}

// schedule starts what may be started: per type up to the bound, first come
// first served, but one attempt of a task at a time.
func (a *Agent) schedule(types ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.open || a.stopping {
		return
	}
	for _, typ := range types {
		l := a.lines[typ]
		for l != nil && l.running < a.opts.Concurrency {
			i := slices.IndexFunc(l.waiting, func(w *work) bool { return !a.tasks[w.ref.TaskID].busy })
			if i < 0 {
				break
			}
			w := l.waiting[i]
			// Taken from the front nearly always, where cutting is cheap.
			if i == 0 {
				l.waiting[0], l.waiting = nil, l.waiting[1:]
			} else {
				l.waiting = slices.Delete(l.waiting, i, i+1)
			}
			w.waiting = false
			l.running++
			a.tasks[w.ref.TaskID].busy = true
			a.performers.Add(1)
			a.launchLocked(w)
		}
		if l != nil {
			a.metrics.line(typ, l)
		}
	}
}

// launchLocked performs a work that has its place and one of the performers.
func (a *Agent) launchLocked(w *work) {
	ctx, cancel := context.WithCancelCause(a.base)
	w.cancel = cancel
	if t := a.tasks[w.ref.TaskID]; w.detached && (t.stone >= w.ref.Attempt || t.seen() > w.ref.Attempt) {
		cancel(handlers.ErrCancelled)
	}
	if a.stopping && a.opts.Handlers.Detached(w.handler) {
		cancel(handlers.ErrStopping)
	}
	go func() {
		defer a.performers.Done()
		defer cancel(nil)
		a.perform(ctx, w)
		a.leave(w)
	}()
}

// leave makes room for the next work after one was performed.
func (a *Agent) leave(w *work) {
	a.mu.Lock()
	l := a.lines[w.typ]
	l.running--
	w.cancel, w.payload = nil, nil
	w.out.Store(nil)
	types := []string{w.typ}
	if t := a.tasks[w.ref.TaskID]; t != nil {
		t.busy = false
		// A later attempt may come under another type only by mistake.
		for _, next := range t.works {
			if next.typ != w.typ {
				types = append(types, next.typ)
			}
		}
	}
	a.metrics.line(w.typ, l)
	a.mu.Unlock()
	a.schedule(types...)
}

// tally is how many works run and wait.
type tally struct{ running, waiting int }

func (a *Agent) count() tally {
	a.mu.Lock()
	defer a.mu.Unlock()
	var n tally
	for _, l := range a.lines {
		n.running += l.running
		n.waiting += len(l.waiting)
	}
	return n
}

// unfinished names the works whose final report was not handed over.
func (a *Agent) unfinished() []tasker.AssignmentRef {
	a.mu.Lock()
	defer a.mu.Unlock()
	refs := []tasker.AssignmentRef{}
	for _, t := range a.tasks {
		for _, w := range t.works {
			if !w.confirmed {
				refs = append(refs, w.ref)
			}
		}
	}
	return refs
}

// endRunning tells the running handlers of some works that the agent is stopping.
func (a *Agent) endRunning(of func(*work) bool) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, t := range a.tasks {
		for _, w := range t.works {
			if w.cancel != nil && of(w) {
				w.cancel(handlers.ErrStopping)
				n++
			}
		}
	}
	return n
}

// forget drops from memory what was swept from the journal.
func (a *Agent) forget(refs []journal.Ref, before time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, ref := range refs {
		if t := a.tasks[ref.TaskID]; t != nil {
			t.works = slices.DeleteFunc(t.works, func(w *work) bool { return w.ref == ref })
		}
	}
	for id, t := range a.tasks {
		if t.stone > 0 && t.stoneDeadline.Before(before) {
			t.stone = 0
		}
		if len(t.works) == 0 && t.stone == 0 && !t.busy {
			delete(a.tasks, id)
		}
	}
}
