package agent

import (
	"context"
	"fmt"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent/journal"
	"github.com/MatthiasWiesner/tasker/handlers"
)

// plan is what a batch of orders comes to: first it is made, then the journal
// takes it as a whole, then it is carried out. So a batch that the journal
// could not take has changed nothing and may come again.
type plan struct {
	a *Agent
	// records and works go together.
	records []journal.Record
	works   []*work
	stones  []journal.Tombstone
	// again are works whose state is to be reported once more.
	again    []*work
	cancels  []tasker.Cancel
	outcomes map[string]int
}

// lookup finds a work among those in memory and in the plan, with the highest
// attempt of its task that was accepted and that was cancelled.
func (p *plan) lookup(ref journal.Ref) (known *work, seen, stone int) {
	p.a.mu.Lock()
	if t := p.a.tasks[ref.TaskID]; t != nil {
		known, seen, stone = t.find(ref.Attempt), t.seen(), t.stone
	}
	p.a.mu.Unlock()
	for _, w := range p.works {
		if w.ref.TaskID == ref.TaskID {
			seen = max(seen, w.ref.Attempt)
			if w.ref == ref {
				known = w
			}
		}
	}
	for _, s := range p.stones {
		if s.TaskID == ref.TaskID {
			stone = max(stone, s.Attempt)
		}
	}
	return known, seen, stone
}

// add plans to accept an assignment, with the first word about it, which may be
// the last one.
func (p *plan) add(o tasker.Order, as tasker.Assignment, outcome string, status tasker.ResponseStatus, reason string) {
	p.outcomes[outcome]++
	p.a.mu.Lock()
	at := p.a.stampLocked()
	p.a.mu.Unlock()
	u := tasker.Update{
		TaskID: as.TaskID, Type: o.Type, Attempt: as.Attempt, Seq: p.a.journal.Seq(),
		Status: status, Reason: reason, ReceivedAt: at,
	}
	w := &work{
		ref: journal.Ref{TaskID: as.TaskID, Attempt: as.Attempt}, identifier: as.Identifier, typ: o.Type,
		handler: as.Handler, timeout: as.Timeout.D(), action: as.Action, undoes: as.Undoes, deadline: as.Deadline, phase: journal.Accepted,
	}
	if status.Ended() {
		u.FinishedAt = at
		w.phase, w.final = journal.Ended, true
	}
	w.last = u
	if len(as.Payload) <= smallPayload {
		w.payload = as.Payload
	}
	p.works = append(p.works, w)
	p.records = append(p.records, journal.Record{Type: o.Type, Assignment: as, Update: u})
}

// smallPayload is up to how many bytes a payload is kept in memory as well.
const smallPayload = 4 << 10

// reserve has the work that was added last started together with its acceptance,
// if nothing stands before it: that spares the journal a transaction.
func (p *plan) reserve() {
	a, w := p.a, p.works[len(p.works)-1]
	for _, other := range p.works[:len(p.works)-1] {
		if other.ref.TaskID == w.ref.TaskID || other.typ == w.typ && other.phase == journal.Accepted {
			return // it comes after that one
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.lineLocked(w.typ)
	t := a.tasks[w.ref.TaskID]
	if !a.open || a.stopping || len(l.waiting) > 0 || l.running >= a.opts.Concurrency || t != nil && t.busy {
		return
	}
	l.running++
	a.taskLocked(w.ref.TaskID).busy = true
	a.performers.Add(1)
	w.reserved, w.phase = true, journal.Starting
	r := &p.records[len(p.records)-1]
	r.Starting, r.Update = true, a.beginLocked(w)
}

// giveBack undoes what was reserved.
func (p *plan) giveBack() {
	p.a.mu.Lock()
	defer p.a.mu.Unlock()
	for _, w := range p.works {
		if w.reserved {
			p.a.lines[w.typ].running--
			t := p.a.tasks[w.ref.TaskID]
			if t.busy = false; len(t.works) == 0 && t.stone == 0 {
				delete(p.a.tasks, w.ref.TaskID)
			}
			p.a.performers.Done()
		}
	}
}

func (p *plan) cancel(o tasker.Order) {
	c := *o.Cancel
	if !nameable(c.TaskID, c.Attempt) {
		p.drop(outcomeMalformed, o, "its task id or attempt is none")
		return
	}
	if c.Deadline.IsZero() {
		c.Deadline, _ = p.a.now()
	}
	known, seen, _ := p.lookup(journal.Ref{TaskID: c.TaskID, Attempt: c.Attempt})
	p.stones = append(p.stones, journal.Tombstone{TaskID: c.TaskID, Attempt: c.Attempt, Deadline: c.Deadline})
	p.cancels = append(p.cancels, c)
	if known == nil && seen < c.Attempt && !c.Broadcast {
		p.add(o, tasker.Assignment{TaskID: c.TaskID, Attempt: c.Attempt, Deadline: c.Deadline},
			outcomeCancelled, tasker.Cancelled, "cancelled before it was received")
	}
}

// carryOut does what the journal has recorded.
func (p *plan) carryOut(ctx context.Context) {
	a := p.a
	for outcome, n := range p.outcomes {
		if outcome != outcomeHeld {
			a.metrics.orders(outcome, n)
		}
	}
	var told, begun, ended []*work
	types := map[string]bool{}
	a.mu.Lock()
	for _, w := range p.works {
		a.addLocked(w)
		switch {
		case w.reserved:
			a.launchLocked(w)
			a.metrics.line(w.typ, a.lines[w.typ])
		case w.phase == journal.Accepted:
			a.enqueueLocked(w)
			types[w.typ] = true
			begun = append(begun, w)
		case w.phase == journal.Ended:
			told = append(told, w)
		}
		// An earlier attempt of which nobody wants to know any more.
		ended = append(ended, a.stopAttemptsLocked(w.ref.TaskID, w.ref.Attempt-1, replacedBy(w.ref.Attempt))...)
	}
	for _, c := range p.cancels {
		t := a.taskLocked(c.TaskID)
		if c.Attempt > t.stone {
			t.stone, t.stoneDeadline = c.Attempt, c.Deadline
		}
		ended = append(ended, a.stopAttemptsLocked(c.TaskID, c.Attempt, "")...)
		if w := t.find(c.Attempt); w != nil {
			p.again = append(p.again, w)
		}
	}
	for _, w := range p.again {
		if w.phase != journal.Held {
			told = append(told, w)
		}
	}
	a.mu.Unlock()

	for i, w := range p.works {
		u := p.records[i].Update
		if !w.reserved { // else who performs it says so
			a.logger(w).Info("assignment "+string(u.Status), "handler", w.handler, "reason", u.Reason)
		}
		if u.Status.Ended() {
			a.metrics.finished(w.typ, u.Status)
		}
	}
	a.speaker.tell(told...)
	a.speaker.tellShortly(begun...)
	a.end(ctx, outcome{status: tasker.Cancelled, reason: "cancelled before it was started"}, ended...)
	for typ := range types {
		a.schedule(typ)
	}
}

// replacedBy is why an attempt is cancelled when a later one has come.
func replacedBy(attempt int) string { return fmt.Sprintf("attempt %d has taken its place", attempt) }

// stopAttemptsLocked cancels a task's works up to an attempt. It returns those
// that had not been started, taken out of their lines, for the caller to end;
// held ones, leftovers and detached ones are left to those who see to them.
func (a *Agent) stopAttemptsLocked(id string, upTo int, why string) []*work {
	var ended []*work
	for _, w := range a.tasks[id].works {
		switch {
		case w.ref.Attempt > upTo || w.final:
		case w.cancel != nil:
			if w.why == "" {
				w.why = why
			}
			w.cancel(handlers.ErrCancelled)
		case w.waiting && !w.detached:
			a.dequeueLocked(w)
			w.why = why
			ended = append(ended, w)
		}
	}
	return ended
}
