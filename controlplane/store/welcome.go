package store

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/MatthiasWiesner/tasker"
)

// orders returns the orders that respond to the batch: welcomes, and the open
// broadcasts that an endpoint serves and has no response for.
func (b *endpointBatch) orders(ctx context.Context) ([]tasker.Order, error) {
	orders := b.furtherWelcomes()
	if len(b.hellos) == 0 {
		return orders, nil
	}
	broadcasts, err := b.openBroadcasts(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(b.hellos)) {
		orders = append(orders, b.builder.welcome(name, b.hellos[name].Session, b.interval, b.Now))
		for _, t := range broadcasts {
			if b.serves(name, t.Type) && !t.received[name] {
				orders = append(orders, b.builder.order(t.taskRow, Claim{AttemptKey: AttemptKey{t.ID, name, t.attempt}}, b.Now))
			}
		}
	}
	return orders, nil
}

// furtherWelcomes returns welcomes for agents whose heartbeats no longer suit the size
// of the fleet, or report that they do not know the newest signing key.
func (b *endpointBatch) furtherWelcomes() []tasker.Order {
	var orders []tasker.Order
	for _, name := range slices.Sorted(maps.Keys(b.heartbeats)) {
		e := b.endpoints[name]
		kept := e.reportedInterval()
		isUnsuited := kept > 0 && (b.interval >= 2*kept || kept >= 2*b.interval)
		if b.hellos[name] == nil && (isUnsuited || b.builder.keys.isOutdated(e.presence.Key)) {
			orders = append(orders, b.builder.welcome(name, e.session, b.interval, b.Now))
		}
	}
	return orders
}

// openBroadcast is a broadcast that endpoints may still receive.
type openBroadcast struct {
	*taskRow
	// received has the endpoints of the batch that have a response.
	received map[string]bool
}

func (b *endpointBatch) openBroadcasts(ctx context.Context) ([]openBroadcast, error) {
	var open []openBroadcast
	var keys []responseKey
	index := map[string]int{}
	rows, err := taskBodyColumns.Select(ctx, &b.Conn, `FROM tasks WHERE closes_at > ? AND cancel_requested_at IS NULL
		AND (not_before IS NULL OR not_before <= ?) ORDER BY closes_at`, b.Now, b.Now)
	if err != nil {
		return nil, fmt.Errorf("read open broadcasts: %w", err)
	}
	for i, row := range rows {
		index[row.ID] = i
		open = append(open, openBroadcast{row, map[string]bool{}})
		for name := range b.hellos {
			if b.serves(name, row.Type) {
				keys = append(keys, responseKey{row.ID, name})
			}
		}
	}
	for _, c := range keyConditions(keys) {
		stored, err := queryKeys(ctx, &b.Conn, "SELECT task_id, endpoint FROM responses WHERE "+c.where, c.args...)
		if err != nil {
			return nil, fmt.Errorf("read the responses to open broadcasts: %w", err)
		}
		for _, k := range stored {
			open[index[k.task]].received[k.endpoint] = true
		}
	}
	return open, nil
}
