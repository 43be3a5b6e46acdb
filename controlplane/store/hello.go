package store

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"

	"github.com/MatthiasWiesner/tasker"
)

// hear writes that the endpoints have spoken, and how they are.
func (b *batch) hear(ctx context.Context) error {
	var err error
	if b.endpoints, err = b.tx.endpoints(ctx, b.names, b.tx.forUpdate); err != nil {
		return err
	}
	if len(b.hellos) > 0 || len(b.beats) > 0 {
		if b.interval, err = b.tx.interval(ctx); err != nil {
			return err
		}
	}
	for _, r := range b.reports {
		e := b.endpoints[r.Endpoint]
		if e == nil {
			e = &endpointRow{name: r.Endpoint, firstSeen: b.tx.now}
			b.endpoints[e.name] = e
		}
		e.instance = cut(r.Instance, maxName)
		switch {
		case r.Hello != nil:
			session := cut(r.Hello.Session, maxName)
			b.first[e.name] = b.first[e.name] || e.session != session
			e.connected, e.session, e.presence = true, session, r.Hello.Presence
		case r.Heartbeat != nil:
			e.connected, e.presence = true, r.Heartbeat.Presence
		case r.Goodbye != nil:
			e.connected = false
		}
		// What is not a heartbeat may come before the agent says the interval that
		// it was told last.
		silentAt := e.silentAt
		if e.speak(b.tx.now, max(b.interval, b.tx.s.heartbeat)); r.Update != nil {
			e.silentAt = max(e.silentAt, silentAt)
		}
	}
	var rows [][]any
	for _, name := range slices.Sorted(maps.Keys(b.endpoints)) {
		values, err := b.endpoints[name].values()
		if err != nil {
			return err
		}
		rows = append(rows, values)
	}
	columns := words(endpointState)
	if err := b.tx.insertRows(ctx, "endpoints", columns, b.tx.onConflict(columns[:1], columns[1:]), rows); err != nil {
		return fmt.Errorf("write endpoints: %w", err)
	}
	return nil
}

// openKeys are the responses of those who say hello that have not ended.
func (b *batch) openKeys(ctx context.Context) ([]key, error) {
	var keys []key
	for names := range slices.Chunk(slices.Sorted(maps.Keys(b.hellos)), 1000) {
		more, err := b.tx.keys(ctx, "SELECT task_id, endpoint FROM responses WHERE endpoint IN ("+marks(len(names))+
			") AND status IN ('pending','sent','received','running')", anys(names)...)
		if err != nil {
			return nil, fmt.Errorf("look for open responses: %w", err)
		}
		keys = append(keys, more...)
	}
	return keys, nil
}

// greet makes due what the endpoint may not have got, and ends what it has lost.
// spoken: the batch has an update of the response.
func (b *batch) greet(h *tasker.Hello, r *responseRow, spoken bool) {
	cancelled := b.unit.tasks[r.TaskID].CancelRequestedAt != nil
	switch r.Status {
	case tasker.Pending, tasker.Sent:
		// A hello that is repeated says no more than that its welcome is late: what
		// is on its way is left there, or a control plane that is behind would be the
		// more so. What was not sent is due by itself.
		late := r.SentAt != nil && microsOf(*r.SentAt).add(ClaimHold) <= b.tx.now
		// What is not to begin yet is due by itself too.
		early := r.tries == 0 && r.nextSendAt > b.tx.now
		if !cancelled && !early && r.expiresAt > b.tx.now && (b.first[r.Endpoint] || late) {
			r.nextSendAt, r.dirty = b.tx.now, true
			b.tx.commit.Due = true
		}
	case tasker.Received, tasker.Running:
		// A hello that is repeated within its session may be older than what the
		// agent has accepted since.
		ref := tasker.AssignmentRef{TaskID: r.TaskID, Attempt: r.Attempt}
		if b.first[r.Endpoint] && !spoken && !slices.Contains(h.Unfinished, ref) {
			// Presumed: another control plane may just be storing its last report.
			b.unit.end(r, tasker.Interrupted, "agent lost it", true)
		}
	}
	if cancelled && !r.Status.Ended() {
		r.cancelSendAt, r.dirty = b.tx.now, true
		b.tx.commit.Due = true
	}
}

// answer makes the orders that answer the hellos: a welcome, and the open
// broadcasts that the endpoint serves and has no response for.
func (b *batch) answer(ctx context.Context) error {
	s, now := b.tx.s, b.tx.now
	for _, name := range slices.Sorted(maps.Keys(b.beats)) {
		// The fleet has grown or shrunk since it was welcomed.
		e := b.endpoints[name]
		if at := e.stated(); b.hellos[name] == nil && at > 0 && (b.interval >= 2*at || at >= 2*b.interval) {
			b.applied.Orders = append(b.applied.Orders, b.welcome(name, e.session))
		}
	}
	if len(b.hellos) == 0 {
		return nil
	}
	open, err := b.openBroadcasts(ctx)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(b.hellos)) {
		b.applied.Orders = append(b.applied.Orders, b.welcome(name, b.hellos[name].Session))
		for _, t := range open {
			if s.types[t.Type].ServedBy(b.endpoints[name].presence) && !t.has[name] {
				b.applied.Orders = append(b.applied.Orders, s.order(t.taskRow, Claim{Endpoint: name, Attempt: t.attempt}, now))
			}
		}
	}
	return nil
}

func (b *batch) welcome(endpoint, session string) tasker.Order {
	return tasker.Order{
		Version: tasker.WireVersion, Endpoint: endpoint, Expires: b.tx.s.here(b.tx.now.add(welcomeLife), b.tx.now),
		Welcome: &tasker.Welcome{Session: session, Now: b.tx.now.time(), Heartbeat: tasker.Duration(b.interval)},
	}
}

// broadcast is one that is open, with those among the endpoints that say hello
// who have a response.
type broadcast struct {
	*taskRow
	has map[string]bool
}

func (b *batch) openBroadcasts(ctx context.Context) ([]broadcast, error) {
	var open []broadcast
	var keys []key
	index := map[string]int{}
	err := b.tx.rows(ctx, "SELECT "+taskBody+` FROM tasks WHERE closes_at > ? AND cancel_requested_at IS NULL
		AND (not_before IS NULL OR not_before <= ?) ORDER BY closes_at`, []any{b.tx.now, b.tx.now}, func(r *sql.Rows) error {
		row, err := scanTask(r, true)
		if err != nil {
			return err
		}
		index[row.ID] = len(open)
		open = append(open, broadcast{row, map[string]bool{}})
		for name := range b.hellos {
			if b.tx.s.types[row.Type].ServedBy(b.endpoints[name].presence) {
				keys = append(keys, key{row.ID, name})
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read open broadcasts: %w", err)
	}
	where, args := conditions(keys)
	for i := range where {
		have, err := b.tx.keys(ctx, "SELECT task_id, endpoint FROM responses WHERE "+where[i], args[i]...)
		if err != nil {
			return nil, fmt.Errorf("read who has the broadcasts: %w", err)
		}
		for _, k := range have {
			open[index[k.task]].has[k.endpoint] = true
		}
	}
	return open, nil
}
