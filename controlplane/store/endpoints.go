package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// silentBeats is after how many heartbeats without a word an endpoint counts as
// disconnected.
const silentBeats = 3

// mostBeats is how many heartbeats a second a fleet is to send at most: beyond
// it the interval grows with the fleet. Agents take up to a tenth off.
const mostBeats = 45

// longestBeat bounds what an agent may say of its interval.
const longestBeat = time.Hour

// endpointRow is a row of endpoints.
type endpointRow struct {
	name, instance string
	// session is that of the last hello.
	session string
	// connected: it has spoken, and not said goodbye since.
	connected bool
	firstSeen micros
	lastSeen  micros
	// silentAt is when it counts as disconnected unless it speaks.
	silentAt micros
	presence tasker.Presence
}

const endpointState = "name, instance, session, connected, first_seen, last_seen, silent_at, presence"

func scanEndpoint(row scanner) (*endpointRow, error) {
	var e endpointRow
	var presence []byte
	if err := row.Scan(&e.name, &e.instance, &e.session, &e.connected, &e.firstSeen, &e.lastSeen, &e.silentAt, &presence); err != nil {
		return nil, fmt.Errorf("read an endpoint: %w", err)
	}
	if err := json.Unmarshal(presence, &e.presence); err != nil {
		return nil, fmt.Errorf("read the presence of endpoint %s: %w", e.name, err)
	}
	return &e, nil
}

// values are the row's columns in the order of endpointState.
func (e *endpointRow) values() ([]any, error) {
	presence, err := json.Marshal(e.presence)
	if err != nil {
		return nil, fmt.Errorf("write the presence of endpoint %s: %w", e.name, err)
	}
	return []any{e.name, e.instance, e.session, e.connected, e.firstSeen, e.lastSeen, e.silentAt, string(presence)}, nil
}

func (e *endpointRow) online(now micros) bool { return e.connected && e.silentAt > now }

// speak notes that it has spoken; interval is that at which it is told to, or the
// shortest one.
func (e *endpointRow) speak(now micros, interval time.Duration) {
	e.lastSeen = now
	e.silentAt = now.add(silentBeats * max(interval, e.stated()))
}

// stated is the interval that the agent says it keeps; zero if it says nothing.
func (e *endpointRow) stated() time.Duration { return min(e.presence.Heartbeat.D(), longestBeat) }

// fleet is how many endpoints were connected, and when they were counted.
type fleet struct {
	mu        sync.Mutex
	connected int
	at        micros
}

// interval is that at which an agent of a fleet of this size is to send heartbeats.
func (t *tx) interval(ctx context.Context) (time.Duration, error) {
	f := &t.s.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	interval := func() time.Duration {
		return max(t.s.heartbeat, time.Duration(f.connected)*time.Second/mostBeats)
	}
	// The larger the fleet, the more it is to count, and the less it matters.
	if f.at == 0 || t.now < f.at || t.now >= f.at.add(interval()/5) {
		n, err := t.connected(ctx, t.now)
		if err != nil {
			return 0, fmt.Errorf("count the connected endpoints: %w", err)
		}
		f.connected, f.at = n, t.now
	}
	return interval(), nil
}

// connected counts the connected endpoints, up to maxCount.
func (c *conn) connected(ctx context.Context, now micros) (int, error) {
	var n int
	err := c.row(ctx, "SELECT COUNT(*) FROM (SELECT 1 FROM endpoints WHERE silent_at > ? AND connected = 1 LIMIT ?) AS present",
		[]any{now, maxCount}, &n)
	return n, err
}

func (s *Store) endpoint(e *endpointRow, now micros) tasker.Endpoint {
	out := tasker.Endpoint{
		Name: e.name, Instance: e.instance, Connected: e.online(now),
		FirstSeen: e.firstSeen.time(), LastSeen: e.lastSeen.time(), Types: []string{}, Presence: e.presence,
	}
	for name, t := range s.types {
		if t.ServedBy(e.presence) {
			out.Types = append(out.Types, name)
		}
	}
	slices.Sort(out.Types)
	return out
}

// endpoints reads endpoints by name; those unknown are left out. lock is
// forUpdate or empty.
func (c *conn) endpoints(ctx context.Context, names []string, lock string) (map[string]*endpointRow, error) {
	known := map[string]*endpointRow{}
	for names := range slices.Chunk(names, 1000) {
		query := "SELECT " + endpointState + " FROM endpoints WHERE name IN (" + marks(len(names)) + ") ORDER BY name" + lock
		err := c.rows(ctx, query, anys(names), func(r *sql.Rows) error {
			e, err := scanEndpoint(r)
			if err == nil {
				known[e.name] = e
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read endpoints: %w", err)
		}
	}
	return known, nil
}

// Endpoints lists endpoints by name, up to limit, those after the name given.
func (s *Store) Endpoints(ctx context.Context, limit int, after string) ([]tasker.Endpoint, error) {
	const doing = "list endpoints"
	c := s.direct()
	now, err := s.now(ctx, c)
	if err != nil {
		return nil, s.fail(doing, err)
	}
	if limit <= 0 {
		limit = defaultPage
	}
	list := []tasker.Endpoint{}
	var names []string
	err = c.rows(ctx, "SELECT "+endpointState+" FROM endpoints WHERE name > ? ORDER BY name LIMIT ?", []any{after, limit}, func(r *sql.Rows) error {
		e, err := scanEndpoint(r)
		if err == nil {
			list, names = append(list, s.endpoint(e, now)), append(names, e.name)
		}
		return err
	})
	if err != nil {
		return nil, s.fail(doing, err)
	}
	if len(names) == 0 {
		return list, nil
	}
	credentials, err := c.credentialsFrom(ctx, names[0], names[len(names)-1])
	for i := range list {
		list[i] = credentials[names[i]].mark(list[i])
	}
	return list, s.fail(doing, err)
}

// Endpoint reads one endpoint. One that is enrolled is there before it connects.
func (s *Store) Endpoint(ctx context.Context, name string) (tasker.Endpoint, error) {
	const doing = "read an endpoint"
	if tasker.ValidateEndpoint(name) != nil {
		return tasker.Endpoint{}, fmt.Errorf("%s: %w", doing, ErrNotFound)
	}
	c := s.direct()
	now, err := s.now(ctx, c)
	if err != nil {
		return tasker.Endpoint{}, s.fail(doing, err)
	}
	known, err := c.endpoints(ctx, []string{name}, "")
	if err != nil {
		return tasker.Endpoint{}, s.fail(doing, err)
	}
	credentials, err := c.credentials(ctx, []string{name}, "")
	credential, enrolled := credentials[name]
	if err == nil && known[name] == nil && !enrolled {
		err = ErrNotFound
	}
	if err != nil {
		return tasker.Endpoint{}, s.fail(doing, err)
	}
	e := tasker.Endpoint{Name: name, Types: []string{}}
	if known[name] != nil {
		e = s.endpoint(known[name], now)
	}
	return credential.mark(e), nil
}

// Select returns the names of the endpoints that match, by name.
func (s *Store) Select(ctx context.Context, match func(tasker.Endpoint) bool) ([]string, error) {
	var names []string
	for after := ""; ; {
		page, err := s.Endpoints(ctx, maxPage, after)
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
