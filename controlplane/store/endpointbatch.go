package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// endpointBatch holds the endpoints of a batch of reports, and what the reports change
// about them.
type endpointBatch struct {
	*tx
	builder orderBuilder
	rate    *heartbeatRate
	reports []tasker.Report
	// accepted are the reports that were not refused, refused the endpoints of the others;
	// see accepts.
	accepted []tasker.Report
	refused  []string
	// enrolled has the endpoints of other instances that have a secret of their own.
	enrolled map[string]bool
	// hellos has the last hello of each endpoint that sent one.
	hellos map[string]*tasker.Hello
	// heartbeats has the endpoints that sent one; interval is the one to keep.
	heartbeats map[string]bool
	interval   time.Duration
	// newSessions are the endpoints whose hello begins a session.
	newSessions map[string]bool
	endpoints   map[string]*endpointRow
}

func newEndpointBatch(tx *tx, builder orderBuilder, rate *heartbeatRate) *endpointBatch {
	return &endpointBatch{
		tx: tx, builder: builder, rate: rate,
		hellos: map[string]*tasker.Hello{}, heartbeats: map[string]bool{}, newSessions: map[string]bool{},
	}
}

func (b *endpointBatch) add(r tasker.Report) { b.reports = append(b.reports, r) }

// write stores the endpoints' presence and the time of their reports.
func (b *endpointBatch) write(ctx context.Context) error {
	var names []string
	hasPresence := false
	for _, r := range b.reports {
		names = append(names, r.Endpoint)
		hasPresence = hasPresence || r.Hello != nil || r.Heartbeat != nil
	}
	slices.Sort(names)
	var err error
	if b.endpoints, err = readEndpoints(ctx, &b.Conn, slices.Compact(names), b.ForUpdate); err != nil {
		return err
	}
	if err := b.findEnrolled(ctx); err != nil {
		return err
	}
	if hasPresence {
		if b.interval, err = b.rate.interval(ctx, &b.Conn, b.Now); err != nil {
			return err
		}
	}
	for _, r := range b.reports {
		if !b.accepts(r) {
			b.refused = append(b.refused, r.Endpoint)
			continue
		}
		b.accepted = append(b.accepted, r)
		b.apply(r)
	}
	var rows []*endpointRow
	for _, name := range slices.Sorted(maps.Keys(b.endpoints)) {
		rows = append(rows, b.endpoints[name])
	}
	return endpointColumns.Upsert(ctx, &b.Conn, "endpoints", 1, rows...)
}

// findEnrolled finds the enrolled endpoints among those of which more than one instance
// reports, which is rare.
func (b *endpointBatch) findEnrolled(ctx context.Context) error {
	instances, several := map[string]string{}, map[string]bool{}
	for _, e := range b.endpoints {
		instances[e.name] = e.instance
	}
	for _, r := range b.reports {
		if first, known := instances[r.Endpoint]; known && first != r.Instance {
			several[r.Endpoint] = true
		}
		instances[r.Endpoint] = r.Instance
	}
	credentials, err := readCredentials(ctx, &b.Conn, slices.Sorted(maps.Keys(several)), "")
	if err != nil {
		return err
	}
	b.enrolled = map[string]bool{}
	for name, c := range credentials {
		b.enrolled[name] = c.EnrolledAt != nil
	}
	return nil
}

// accepts reports whether a report counts. While the agent of an endpoint that is not
// enrolled is alive, reports of other instances do not: their senders share a credential
// with the agent. The secret of an enrolled endpoint proves who has sent a report.
func (b *endpointBatch) accepts(r tasker.Report) bool {
	e := b.endpoints[r.Endpoint]
	return e == nil || !e.isConnected(b.Now) || e.instance == truncate(r.Instance, maxName) || b.enrolled[r.Endpoint]
}

// apply changes the endpoint's row by one report.
func (b *endpointBatch) apply(r tasker.Report) {
	e := b.endpoints[r.Endpoint]
	if e == nil {
		e = &endpointRow{name: r.Endpoint, firstSeen: b.Now}
		b.endpoints[e.name] = e
	}
	e.instance = truncate(r.Instance, maxName)
	switch {
	case r.Hello != nil:
		b.hellos[e.name] = r.Hello
		session := truncate(r.Hello.Session, maxName)
		b.newSessions[e.name] = b.newSessions[e.name] || e.session != session
		e.connected, e.session, e.presence = true, session, r.Hello.Presence
	case r.Heartbeat != nil:
		b.heartbeats[e.name] = true
		e.connected, e.presence = true, r.Heartbeat.Presence
	case r.Goodbye != nil:
		e.connected = false
	}
	// An update does not shorten the silence that is allowed: it may arrive before
	// the heartbeat that reports a new interval.
	silentAt := e.silentAt
	if e.recordReport(b.Now, max(b.interval, b.rate.shortest)); r.Update != nil {
		e.silentAt = max(e.silentAt, silentAt)
	}
}

// serves reports whether the endpoint performs tasks of the type.
func (b *endpointBatch) serves(endpoint, taskType string) bool {
	return b.builder.types[taskType].ServedBy(b.endpoints[endpoint].presence)
}

// unendedResponses returns the unended responses of the endpoints that sent a hello.
func (b *endpointBatch) unendedResponses(ctx context.Context) ([]responseKey, error) {
	var keys []responseKey
	for names := range slices.Chunk(slices.Sorted(maps.Keys(b.hellos)), sqldb.MaxListed) {
		more, err := queryKeys(ctx, &b.Conn, "SELECT task_id, endpoint FROM responses WHERE endpoint IN ("+sqldb.Placeholders(len(names))+
			") AND "+statusIn(isUnended), sqldb.Args(names)...)
		if err != nil {
			return nil, fmt.Errorf("read unended responses: %w", err)
		}
		keys = append(keys, more...)
	}
	return keys, nil
}

// reconcile changes a response by its endpoint's hello: orders that the agent may not
// have received become due, and attempts that it has lost end. updated: the batch has
// an update of the response.
func (b *endpointBatch) reconcile(cs *changeSet, r *responseRow, updated bool) {
	h := b.hellos[r.Endpoint]
	if h == nil {
		return
	}
	cancelled := cs.tasks[r.TaskID].CancelRequestedAt != nil
	switch r.Status {
	case tasker.Pending, tasker.Sent:
		if !cancelled && b.shouldResend(r) {
			r.nextSendAt, r.dirty = b.Now, true
			b.commit.Due = true
		}
	case tasker.Received, tasker.Running:
		// A hello that is repeated within its session may be older than an assignment
		// that the agent has accepted since.
		ref := tasker.AssignmentRef{TaskID: r.TaskID, Attempt: r.Attempt}
		if b.newSessions[r.Endpoint] && !updated && !slices.Contains(h.Unfinished, ref) {
			// Presumed: another control plane may be storing the last report just now.
			cs.end(r, tasker.Interrupted, "agent lost it", true)
		}
	}
	if cancelled && !r.Status.Ended() {
		r.cancelSendAt, r.dirty = b.Now, true
		b.commit.Due = true
	}
}

// shouldResend reports whether the order of a response that was not received is due
// because of its endpoint's hello.
func (b *endpointBatch) shouldResend(r *responseRow) bool {
	// A hello is repeated because its welcome is late. To send an order again that was
	// sent a moment ago would delay a slow control plane further. An order that was not
	// sent is due anyway.
	overdue := r.SentAt != nil && sqldb.MicrosOf(*r.SentAt).Add(ClaimHold) <= b.Now
	// An order that must not be sent yet becomes due later.
	early := r.sendTries == 0 && r.nextSendAt > b.Now
	return !early && r.expiresAt > b.Now && (b.newSessions[r.Endpoint] || overdue)
}
