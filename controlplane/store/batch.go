package store

import (
	"cmp"
	"context"
	"slices"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/reportrules"
)

// The outcomes of an update.
const (
	updateApplied = "applied"
	updateStale   = "stale"
	updateUnknown = "unknown"
)

// batch is a set of reports and deliveries that one transaction writes.
type batch struct {
	*tx
	types      map[string]tasker.TaskType
	endpoints  *endpointBatch
	deliveries []delivery
	// updates are sorted by key, attempt and sequence.
	updates []update
	cs      *changeSet
	output  outputBatch
	result  ApplyResult
}

type update struct {
	responseKey
	*tasker.Update
}

func newBatch(tx *tx, w *batchWriter, items batchItem) *batch {
	b := &batch{
		tx: tx, types: w.orders.types, endpoints: newEndpointBatch(tx, w.orders, w.rate), deliveries: items.deliveries,
		result: ApplyResult{Updates: map[string]int{}},
	}
	for _, r := range items.reports {
		if tasker.ValidateEndpoint(r.Endpoint) != nil {
			if r.Update != nil {
				b.result.Updates[updateUnknown]++
			}
			continue
		}
		b.endpoints.add(r)
	}
	return b
}

// write writes the endpoints, then deliveries (whose orders were sent before anything
// was reported on them), then updates, then the responses that hellos change.
func (b *batch) write(ctx context.Context) error {
	if err := b.endpoints.write(ctx); err != nil {
		return err
	}
	b.result.Refused = b.endpoints.refused
	b.addUpdates()
	if err := b.lock(ctx); err != nil {
		return err
	}
	for _, d := range b.deliveries {
		applyDelivery(b.cs, d)
	}
	attempts := map[responseKey]int{}
	for _, u := range b.updates {
		b.result.Updates[b.applyUpdate(u)]++
		attempts[u.responseKey] = u.Attempt
	}
	for k, r := range b.cs.responses {
		b.endpoints.reconcile(b.cs, r, attempts[k] == r.Attempt)
	}
	var err error
	if b.result.Finished, err = b.cs.write(ctx); err != nil {
		return err
	}
	b.result.Reported = b.reportedAttempts()
	if err := b.output.write(ctx, &b.Conn); err != nil {
		return err
	}
	b.result.Orders, err = b.endpoints.orders(ctx)
	return err
}

// addUpdates adds the updates of the accepted reports.
func (b *batch) addUpdates() {
	for _, r := range b.endpoints.accepted {
		if r.Update != nil {
			b.updates = append(b.updates, update{responseKey{r.Update.TaskID, r.Endpoint}, r.Update})
		}
	}
	slices.SortStableFunc(b.updates, func(x, y update) int {
		return cmp.Or(x.compare(y.responseKey), cmp.Compare(x.Attempt, y.Attempt), cmp.Compare(x.Seq, y.Seq))
	})
}

// reportedAttempts returns the attempts that agents have reported on, now or before.
func (b *batch) reportedAttempts() []AttemptKey {
	var attempts []AttemptKey
	for k, r := range b.cs.responses {
		if r.Status.Rank() >= tasker.Received.Rank() {
			attempts = append(attempts, AttemptKey{k.task, k.endpoint, r.Attempt})
		}
	}
	return attempts
}

// lock locks the tasks and responses that the batch may change.
func (b *batch) lock(ctx context.Context) error {
	keys, err := b.endpoints.unendedResponses(ctx)
	if err != nil {
		return err
	}
	for _, u := range b.updates {
		keys = append(keys, u.responseKey)
	}
	for _, d := range b.deliveries {
		keys = append(keys, d.key())
	}
	if b.cs, err = lockTasks(ctx, b.tx, taskIDs(keys)); err != nil {
		return err
	}
	keys = slices.DeleteFunc(keys, func(k responseKey) bool { return k.endpoint == "" }) // a broadcast's own order
	return b.cs.load(ctx, keys)
}

// applyUpdate applies one update and returns its outcome.
func (b *batch) applyUpdate(u update) string {
	t := b.cs.tasks[u.task]
	if t == nil {
		return updateUnknown
	}
	r := b.cs.responses[u.responseKey]
	if r == nil {
		if r = b.addBroadcastResponse(t, u); r == nil {
			return updateUnknown
		}
	}
	if u.Attempt == r.Attempt {
		b.output.add(r.Response, u)
	}
	next, changed := r.Apply(reportrules.ClampTimes(*u.Update, r.releasedAt(t).Time(), r.ReceivedAt, b.Now.Time()))
	if !changed {
		if r.StartsAgain(*u.Update) {
			scheduleCancel(b.cs, r)
		}
		return updateStale
	}
	wasWithAgent := r.countedStatus != "" && isWithAgent(r.Status)
	r.Response, r.changed = next, true
	r.clearTimers()
	if t.CancelRequestedAt != nil && !wasWithAgent && !r.Status.Ended() {
		// The agent has received it all the same, perhaps after its tombstone expired.
		scheduleCancel(b.cs, r)
	}
	return updateApplied
}

// addBroadcastResponse makes the row of a broadcast that the endpoint has received,
// or returns nil if the update is not about one. The row is stored only if it
// changes.
func (b *batch) addBroadcastResponse(t *taskRow, u update) *responseRow {
	if !t.broadcast || u.Attempt < 1 || u.Attempt > t.attempt || !u.Status.Reportable() || !b.endpoints.serves(u.endpoint, t.Type) {
		return nil
	}
	r := &responseRow{Response: tasker.Response{
		TaskID: t.ID, Endpoint: u.endpoint, Status: tasker.Pending, Attempt: u.Attempt, Seq: u.Seq - 1,
	}}
	b.cs.responses[u.responseKey] = r
	t.Reason = ""
	return r
}
