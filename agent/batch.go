package agent

import (
	"context"
	"maps"
	"slices"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/agent/journal"
)

// batch collects the effects of one delivery of orders. The journal records all of
// them in one transaction before apply makes them effective. So a delivery that cannot
// be recorded has changed nothing, and may be delivered again.
type batch struct {
	*receiver
	// records are the records of the assignments in added, in the same order.
	records    []journal.Record
	added      []*assignment
	tombstones []journal.Tombstone
	// repeats are assignments whose state is to be reported once more.
	repeats []*assignment
	// outcomes counts the orders by outcome.
	outcomes map[string]int
}

// The outcomes of orders, as a metric label.
const (
	outcomeAccepted  = "accepted"
	outcomeRejected  = "rejected"
	outcomeExpired   = "expired"
	outcomeDuplicate = "duplicate"
	outcomeStale     = "stale"
	outcomeCancelled = "cancelled"
	outcomeMisdirect = "misdirected"
	outcomeMalformed = "malformed"
)

// add adds the effects of one order.
func (b *batch) add(o tasker.Order) {
	parts := 0
	for _, present := range []bool{o.Assignment != nil, o.Cancel != nil, o.Welcome != nil} {
		if present {
			parts++
		}
	}
	switch {
	case !b.isAddressee(o):
		b.drop(outcomeMisdirect, o, "it is for "+o.Endpoint)
	case parts != 1:
		b.drop(outcomeMalformed, o, "it is not exactly one of assignment, cancel and welcome")
	case o.Welcome != nil: // receive has handled it
	case o.Assignment != nil && isValidID(o.Assignment.TaskID, o.Assignment.Attempt):
		b.addAssignment(o)
	case o.Version > tasker.MaxWireVersion && o.Cancel != nil:
		b.drop(outcomeMalformed, o, tooNew(o))
	case o.Cancel != nil && isValidID(o.Cancel.TaskID, o.Cancel.Attempt):
		b.addCancel(*o.Cancel, o.Type)
	default:
		b.drop(outcomeMalformed, o, "its task id or attempt is invalid")
	}
}

// drop counts and logs an order that the agent ignores. The delivery is acknowledged with
// the others.
func (b *batch) drop(outcome string, o tasker.Order, reason string) {
	b.outcomes[outcome]++
	_, taskID := describe(o)
	b.opts.Log.Warn("order dropped", "task", taskID, "type", o.Type, "reason", reason)
}

func (b *batch) addAssignment(o tasker.Order) {
	as, arrivedAt := *o.Assignment, b.opts.Clock()
	now, timeKnown := b.clock.at(arrivedAt)
	late := !as.Deadline.IsZero() && b.clock.isPast(as.Deadline, arrivedAt)
	if timeKnown && as.Deadline.IsZero() {
		as.Deadline = now
	}
	recorded, latest, tombstone := b.lookup(journal.Ref{TaskID: as.TaskID, Attempt: as.Attempt})
	d := decide(facts{
		attempt: as.Attempt, latest: latest, tombstone: tombstone, recorded: recorded != nil,
		timeKnown: timeKnown, late: late,
		refusal: func() string { return refusal(b.opts.Handlers, o) },
	})
	if d.outcome != "" {
		b.outcomes[d.outcome]++
	}
	switch d.action {
	case actionRepeat:
		b.repeats = append(b.repeats, recorded)
	case actionDrop:
		if d.outcome == outcomeExpired {
			b.opts.Log.Warn("assignment arrived after its deadline", "task", as.TaskID, "identifier", as.Identifier, "type", o.Type,
				"deadline", as.Deadline, "late", now.Sub(as.Deadline))
		}
	case actionEnd:
		b.record(o.Type, as, d.status, d.reason)
	case actionHold:
		a := b.record(o.Type, as, tasker.Received, d.reason)
		a.phase, a.arrivedAt = journal.Held, arrivedAt
		b.records[len(b.records)-1].Held = true
	default:
		b.reserve(b.record(o.Type, as, tasker.Received, ""))
	}
}

// addCancel adds a tombstone, and a final report if no assignment will send one.
func (b *batch) addCancel(c tasker.Cancel, taskType string) {
	if c.Deadline.IsZero() {
		c.Deadline, _ = b.clock.now()
	}
	recorded, latest, _ := b.lookup(journal.Ref{TaskID: c.TaskID, Attempt: c.Attempt})
	b.tombstones = append(b.tombstones, journal.Tombstone{TaskID: c.TaskID, Attempt: c.Attempt, Deadline: c.Deadline})
	if recorded == nil && latest < c.Attempt && !c.Broadcast {
		b.outcomes[outcomeCancelled]++
		b.record(taskType, tasker.Assignment{TaskID: c.TaskID, Attempt: c.Attempt, Deadline: c.Deadline}, tasker.Cancelled, reasonNotReceived)
	}
}

// lookup finds an assignment in the registry and the batch. It also returns the highest
// accepted and the highest cancelled attempt of its task.
func (b *batch) lookup(ref journal.Ref) (recorded *assignment, latest, tombstone int) {
	b.registry.mu.Lock()
	if t := b.registry.tasks[ref.TaskID]; t != nil {
		recorded, latest, tombstone = t.find(ref.Attempt), t.latest(), t.tombstone
	}
	b.registry.mu.Unlock()
	for _, a := range b.added {
		if a.ref.TaskID == ref.TaskID {
			latest = max(latest, a.ref.Attempt)
			if a.ref == ref {
				recorded = a
			}
		}
	}
	for _, s := range b.tombstones {
		if s.TaskID == ref.TaskID {
			tombstone = max(tombstone, s.Attempt)
		}
	}
	return recorded, latest, tombstone
}

// record adds an assignment with its first update, which may be the final one.
func (b *batch) record(taskType string, as tasker.Assignment, status tasker.ResponseStatus, reason string) *assignment {
	a := newAssignment(taskType, as)
	a.update = tasker.Update{
		TaskID: as.TaskID, Type: taskType, Attempt: as.Attempt, Seq: b.opts.Journal.Seq(),
		Status: status, Reason: reason, ReceivedAt: b.clock.stamp(),
	}
	if status.Ended() {
		a.update.FinishedAt = a.update.ReceivedAt
		a.phase, a.ended = journal.Ended, true
	}
	b.added = append(b.added, a)
	b.records = append(b.records, journal.Record{Type: taskType, Assignment: as, Update: a.update})
	return a
}

// reserve records the assignment that was added last as starting, if a slot is free
// and nothing waits before it. This saves a transaction.
func (b *batch) reserve(a *assignment) {
	for _, other := range b.added[:len(b.added)-1] {
		if other.ref.TaskID == a.ref.TaskID || other.taskType == a.taskType && other.phase == journal.Accepted {
			return // a comes after it
		}
	}
	b.registry.mu.Lock()
	defer b.registry.mu.Unlock()
	if b.scheduler.reserveLocked(a) {
		a.immediate, a.phase = true, journal.Starting
		r := &b.records[len(b.records)-1]
		r.Starting, r.Update = true, b.performer.prepareLocked(a)
	}
}

// release frees the slots that reserve has occupied.
func (b *batch) release() {
	b.registry.mu.Lock()
	defer b.registry.mu.Unlock()
	for _, a := range b.added {
		if a.immediate {
			b.scheduler.releaseLocked(a)
		}
	}
}

// apply makes effective what the journal has recorded.
func (b *batch) apply(ctx context.Context) {
	for outcome, n := range b.outcomes {
		b.opts.Metrics.countOrders(outcome, n)
	}
	b.registry.mu.Lock()
	now, soon, endings := b.addToRegistryLocked()
	for _, s := range b.tombstones {
		b.registry.addTombstoneLocked(s)
		endings = append(endings, b.scheduler.cancelLocked(s.TaskID, s.Attempt, "")...)
		if a := b.registry.tasks[s.TaskID].find(s.Attempt); a != nil {
			b.repeats = append(b.repeats, a)
		}
	}
	for _, a := range b.repeats {
		if a.phase != journal.Held {
			now = append(now, a)
		}
	}
	b.registry.mu.Unlock()

	for i, a := range b.added {
		u := b.records[i].Update
		if !a.immediate { // the performer logs the others
			a.logger(b.opts.Log).Info("assignment "+string(u.Status), "handler", a.handler, "reason", u.Reason)
		}
		if u.Status.Ended() {
			b.opts.Metrics.countEnded(a.taskType, u.Status)
		}
	}
	b.reports.add(now...)
	b.reports.addSoon(soon...)
	b.performer.end(ctx, endings...)
	types := map[string]bool{}
	for _, a := range soon {
		types[a.taskType] = true
	}
	b.scheduler.schedule(slices.Collect(maps.Keys(types))...)
}

// addToRegistryLocked starts, queues or just keeps the added assignments. It returns
// those to report now and soon, and the earlier attempts to end.
func (b *batch) addToRegistryLocked() (now, soon []*assignment, endings []ending) {
	for _, a := range b.added {
		b.registry.addLocked(a)
		switch {
		case a.immediate:
			b.scheduler.launchLocked(a)
		case a.phase == journal.Accepted:
			b.scheduler.pushLocked(a)
			soon = append(soon, a)
		case a.phase == journal.Ended:
			now = append(now, a)
		}
		endings = append(endings, b.scheduler.cancelLocked(a.ref.TaskID, a.ref.Attempt-1, replacedBy(a.ref.Attempt))...)
	}
	return now, soon, endings
}
