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

// silentIntervals is after how many heartbeat intervals without a report an endpoint
// counts as disconnected.
const silentIntervals = 3

// maxReportedInterval bounds the heartbeat interval that an agent may report.
const maxReportedInterval = time.Hour

// endpointRow is a row of endpoints.
type endpointRow struct {
	name, instance string
	// session is the session of the last hello.
	session string
	// connected: there was a report, and no goodbye since.
	connected bool
	firstSeen sqldb.Micros
	lastSeen  sqldb.Micros
	// silentAt is when the endpoint counts as disconnected unless it reports.
	silentAt sqldb.Micros
	presence tasker.Presence
}

// endpointColumns are the columns of endpoints; the key comes first.
//
//nolint:gochecknoglobals // constant
var endpointColumns = sqldb.NewColumns(
	sqldb.Text("name", func(e *endpointRow) *string { return &e.name }),
	sqldb.Text("instance", func(e *endpointRow) *string { return &e.instance }),
	sqldb.Text("session", func(e *endpointRow) *string { return &e.session }),
	sqldb.Field("connected", func(e *endpointRow) *bool { return &e.connected }),
	sqldb.Field("first_seen", func(e *endpointRow) *sqldb.Micros { return &e.firstSeen }),
	sqldb.Field("last_seen", func(e *endpointRow) *sqldb.Micros { return &e.lastSeen }),
	sqldb.Field("silent_at", func(e *endpointRow) *sqldb.Micros { return &e.silentAt }),
	sqldb.JSON("presence", func(e *endpointRow) *tasker.Presence { return &e.presence }),
)

func (e *endpointRow) isConnected(now sqldb.Micros) bool { return e.connected && e.silentAt > now }

// recordReport sets the times of a report. The endpoint may be silent for a few intervals: the given one
// or the one that its agent reports, whichever is longer.
func (e *endpointRow) recordReport(now sqldb.Micros, interval time.Duration) {
	e.lastSeen = now
	e.silentAt = now.Add(silentIntervals * max(interval, e.reportedInterval()))
}

// reportedInterval is the interval that the agent reports; zero if it reports none.
func (e *endpointRow) reportedInterval() time.Duration {
	return min(e.presence.Heartbeat.D(), maxReportedInterval)
}

// readEndpoints reads endpoints by name; unknown ones are left out. lock is empty or
// Syntax.ForUpdate.
func readEndpoints(ctx context.Context, c *sqldb.Conn, names []string, lock string) (map[string]*endpointRow, error) {
	rows, err := endpointColumns.SelectIn(ctx, c, "FROM endpoints WHERE name", names, " ORDER BY name"+lock)
	if err != nil {
		return nil, fmt.Errorf("read endpoints: %w", err)
	}
	endpoints := map[string]*endpointRow{}
	for _, e := range rows {
		endpoints[e.name] = e
	}
	return endpoints, nil
}

// EndpointReader reads endpoints.
type EndpointReader struct {
	db    *database
	types map[string]tasker.TaskType
	// trustAgentLabels is as in Options.
	trustAgentLabels bool
}

// Endpoints lists up to limit endpoints, sorted by name, that follow the name after.
func (r *EndpointReader) Endpoints(ctx context.Context, limit int, after string) ([]tasker.Endpoint, error) {
	const action = "list endpoints"
	now, err := r.db.Now(ctx)
	if err != nil {
		return nil, r.db.Wrap(action, err)
	}
	if limit <= 0 {
		limit = defaultPage
	}
	c := r.db.Reader()
	rows, err := endpointColumns.Select(ctx, c, "FROM endpoints WHERE name > ? ORDER BY name LIMIT ?", after, limit)
	if err != nil {
		return nil, r.db.Wrap(action, err)
	}
	list := make([]tasker.Endpoint, len(rows))
	if len(rows) == 0 {
		return list, nil
	}
	const page = "endpoint >= ? AND endpoint <= ?"
	first, last := rows[0].name, rows[len(rows)-1].name
	credentials, err := queryCredentials(ctx, c, page, first, last)
	if err != nil {
		return nil, r.db.Wrap(action, err)
	}
	bound, err := readLabels(ctx, c, page, first, last)
	for i, row := range rows {
		list[i] = r.endpoint(row, credentials[row.name], bound[row.name], now)
	}
	return list, r.db.Wrap(action, err)
}

// Endpoint reads one endpoint. An enrolled endpoint exists before it connects.
func (r *EndpointReader) Endpoint(ctx context.Context, name string) (tasker.Endpoint, error) {
	e, err := r.read(ctx, name)
	return e, r.db.Wrap("read an endpoint", err)
}

func (r *EndpointReader) read(ctx context.Context, name string) (tasker.Endpoint, error) {
	if tasker.ValidateEndpoint(name) != nil {
		return tasker.Endpoint{}, ErrNotFound
	}
	now, err := r.db.Now(ctx)
	if err != nil {
		return tasker.Endpoint{}, err
	}
	c := r.db.Reader()
	rows, err := readEndpoints(ctx, c, []string{name}, "")
	if err != nil {
		return tasker.Endpoint{}, err
	}
	credentials, err := readCredentials(ctx, c, []string{name}, "")
	if err != nil {
		return tasker.Endpoint{}, err
	}
	credential, enrolled := credentials[name]
	row := rows[name]
	if row == nil && !enrolled {
		return tasker.Endpoint{}, ErrNotFound
	}
	if row == nil {
		row = &endpointRow{name: name}
	}
	bound, err := readLabels(ctx, c, "endpoint = ?", name)
	return r.endpoint(row, credential, bound[name], now), err
}

// endpoint returns the endpoint with its credential and its bound labels.
func (r *EndpointReader) endpoint(e *endpointRow, c Credential, bound map[string]string, now sqldb.Micros) tasker.Endpoint {
	out := tasker.Endpoint{
		Name: e.name, Instance: e.instance, Connected: e.isConnected(now), Types: []string{},
		Labels: bound, ClaimedLabels: e.presence.Labels, Presence: e.presence,
	}
	if e.firstSeen != 0 {
		out.FirstSeen, out.LastSeen = e.firstSeen.Time(), e.lastSeen.Time()
	}
	out.Presence.Labels = nil
	if c.EnrolledAt == nil || r.trustAgentLabels {
		out.Labels = maps.Clone(e.presence.Labels)
		if out.Labels == nil {
			out.Labels = bound
		} else {
			maps.Copy(out.Labels, bound)
		}
	}
	for name, t := range r.types {
		if t.ServedBy(e.presence) {
			out.Types = append(out.Types, name)
		}
	}
	slices.Sort(out.Types)
	return c.applyTo(out)
}

// Select returns the names of the endpoints that match, sorted.
func (r *EndpointReader) Select(ctx context.Context, match func(tasker.Endpoint) bool) ([]string, error) {
	var names []string
	for after := ""; ; {
		page, err := r.Endpoints(ctx, maxPage, after)
		if err != nil {
			return nil, err
		}
		for _, e := range page {
			if match(e) {
				names = append(names, e.Name)
			}
			after = e.Name
		}
		if len(page) < maxPage {
			return names, nil
		}
	}
}
