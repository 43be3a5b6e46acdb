package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// The outcomes of an update.
const (
	updateApplied = "applied"
	updateStale   = "stale"
	updateUnknown = "unknown"
)

// entryWeight bounds the reports and the claims that are written in one
// transaction.
const entryWeight = 2000

// entry is what one call wants to be written: reports, or what became of claims.
type entry struct {
	reports []tasker.Report
	marks   []mark
	applied Applied
}

// Apply writes a batch of reports in one transaction, which it may share with
// others. Reports of an endpoint whose name is not valid count as unknown.
func (s *Store) Apply(ctx context.Context, reports []tasker.Report) (Applied, error) {
	if len(reports) == 0 {
		return Applied{}, nil
	}
	e := &entry{reports: reports}
	err := s.entries.Do(ctx, e, len(reports))
	return e.applied, err
}

// enter writes entries. What became of the claims comes first, as the orders
// went out before anybody could report on them.
func (s *Store) enter(ctx context.Context, entries []*entry) error {
	var reports []tasker.Report
	var marks []mark
	var speaker *entry
	for _, e := range entries {
		reports, marks = append(reports, e.reports...), append(marks, e.marks...)
		if speaker == nil && len(e.reports) > 0 {
			speaker = e
		}
	}
	var b *batch
	err := s.update(ctx, "write reports and what was sent", func(tx *tx) error {
		b = newBatch(tx, reports, marks)
		return b.apply(ctx)
	})
	if err != nil || speaker == nil {
		return err
	}
	speaker.applied = b.applied // of all who share it
	s.flights.reported(b.unit.rows)
	return nil
}

// batch is what one transaction knows of its entries.
type batch struct {
	tx      *tx
	reports []tasker.Report
	marks   []mark
	// names are the endpoints that speak, sorted; hellos are the last ones.
	names  []string
	hellos map[string]*tasker.Hello
	// beats are those who sent a heartbeat, interval is at which they are to.
	beats    map[string]bool
	interval time.Duration
	// first are the endpoints whose hello begins a session that is not known yet.
	first map[string]bool
	// updates are sorted by key, attempt and sequence.
	updates   []update
	endpoints map[string]*endpointRow
	unit      *unit
	chunks    []chunk
	applied   Applied
}

type update struct {
	key
	*tasker.Update
}

// chunk is output of one attempt.
type chunk struct {
	key
	attempt int
	tasker.Chunk
}

func newBatch(tx *tx, reports []tasker.Report, marks []mark) *batch {
	b := &batch{
		tx: tx, marks: marks, hellos: map[string]*tasker.Hello{}, beats: map[string]bool{}, first: map[string]bool{},
		applied: Applied{Updates: map[string]int{}},
	}
	for _, r := range reports {
		if tasker.ValidateEndpoint(r.Endpoint) != nil {
			if r.Update != nil {
				b.applied.Updates[updateUnknown]++
			}
			continue
		}
		b.reports = append(b.reports, r)
		b.names = append(b.names, r.Endpoint)
		if r.Hello != nil {
			b.hellos[r.Endpoint] = r.Hello
		}
		if r.Heartbeat != nil {
			b.beats[r.Endpoint] = true
		}
		if r.Update != nil {
			b.updates = append(b.updates, update{key{r.Update.TaskID, r.Endpoint}, sane(*r.Update)})
		}
	}
	slices.Sort(b.names)
	b.names = slices.Compact(b.names)
	slices.SortStableFunc(b.updates, func(x, y update) int {
		return cmp.Or(x.compare(y.key), cmp.Compare(x.Attempt, y.Attempt), cmp.Compare(x.Seq, y.Seq))
	})
	return b
}

// apply writes endpoints, then updates, then what the hellos say of the rest.
func (b *batch) apply(ctx context.Context) error {
	if err := b.hear(ctx); err != nil {
		return err
	}
	open, err := b.openKeys(ctx)
	if err != nil {
		return err
	}
	keys := open
	for _, u := range b.updates {
		keys = append(keys, u.key)
	}
	for _, m := range b.marks {
		keys = append(keys, key{m.TaskID, m.Endpoint})
	}
	if b.unit, err = b.tx.lock(ctx, tasksOf(keys)); err != nil {
		return err
	}
	keys = slices.DeleteFunc(keys, func(k key) bool { return k.endpoint == "" }) // a broadcast's own order
	if err := b.unit.load(ctx, keys); err != nil {
		return err
	}
	for _, m := range b.marks {
		b.mark(m)
	}
	spoken := map[key]int{}
	for _, u := range b.updates {
		b.applied.Updates[b.update(u)]++
		spoken[u.key] = u.Attempt
	}
	for k, r := range b.unit.rows {
		if h := b.hellos[k.endpoint]; h != nil {
			b.greet(h, r, spoken[k] == r.Attempt)
		}
	}
	if b.applied.Finished, err = b.unit.flush(ctx); err != nil {
		return err
	}
	if err := b.writeChunks(ctx); err != nil {
		return err
	}
	return b.answer(ctx)
}

// update applies one update and says what became of it.
func (b *batch) update(u update) string {
	t := b.unit.tasks[u.task]
	if t == nil {
		return updateUnknown
	}
	r := b.unit.rows[u.key]
	if r == nil {
		if r = b.create(t, u); r == nil {
			return updateUnknown
		}
	}
	if u.Attempt == r.Attempt {
		for _, c := range u.Output {
			if c.Offset >= 0 && len(c.Data) > 0 && len(c.Data) <= maxStatement {
				b.chunks = append(b.chunks, chunk{u.key, u.Attempt, c})
			}
		}
	}
	next, changed := r.Apply(b.timed(t, r, *u.Update))
	if !changed {
		return updateStale
	}
	known := r.was != "" && (r.Status == tasker.Received || r.Status == tasker.Running)
	r.Response, r.changed = next, true
	r.settle()
	if t.CancelRequestedAt != nil && !known && !r.Status.Ended() {
		// It was received after all, perhaps after its tombstone was dropped.
		r.cancelSendAt, r.cancelTries = b.tx.now, 0
		b.tx.commit.Due = true
	}
	return updateApplied
}

// create makes the row of a broadcast that the endpoint has received; nil if
// the update does not speak of one. The row is stored only if it changes.
func (b *batch) create(t *taskRow, u update) *responseRow {
	e := b.endpoints[u.endpoint]
	if !t.broadcast || u.Attempt < 1 || u.Attempt > t.attempt || !u.Status.Reportable() ||
		!b.tx.s.types[t.Type].ServedBy(e.presence) {
		return nil
	}
	r := &responseRow{Response: tasker.Response{
		TaskID: t.ID, Endpoint: u.endpoint, Status: tasker.Pending, Attempt: u.Attempt, Seq: u.Seq - 1,
	}}
	b.unit.rows[u.key] = r
	t.Reason = ""
	return r
}

func (b *batch) writeChunks(ctx context.Context) error {
	slices.SortStableFunc(b.chunks, func(x, y chunk) int {
		return cmp.Or(x.compare(y.key), cmp.Compare(x.attempt, y.attempt), cmp.Compare(x.Offset, y.Offset))
	})
	rows := make([][]any, len(b.chunks))
	for i, c := range b.chunks {
		rows[i] = []any{c.task, c.endpoint, c.attempt, c.Offset, c.Data}
	}
	columns := words("task_id, endpoint, attempt, at_byte, data")
	if err := b.tx.insertRows(ctx, "chunks", columns, b.tx.onConflict(columns[:4], nil), rows); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// What is kept of an agent's words, in bytes: of a name (instance, session) and
// of a text (reason, error, progress).
const (
	maxName = 64
	maxText = 64 << 10
)

// sane returns the update as it can be stored: what is too big is cut or left
// out and said so, because one report must never keep a batch from being stored.
func sane(u tasker.Update) *tasker.Update {
	u.Reason, u.Error = cut(u.Reason, maxText), cut(u.Error, maxText)
	if u.Progress != nil {
		u.Progress = &tasker.Progress{Percent: u.Progress.Percent, Message: cut(u.Progress.Message, maxText)}
	}
	if len(u.Result) > tasker.MaxResult {
		u.Reason = strings.TrimSpace(fmt.Sprintf("%s (a result of %d bytes was left out, %d are allowed)", u.Reason, len(u.Result), tasker.MaxResult))
		u.Result = nil
	}
	return &u
}

func cut(s string, most int) string {
	if len(s) > most {
		s = s[:most]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
