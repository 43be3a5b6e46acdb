package store

import (
	"context"
	"database/sql"
	"slices"

	"github.com/MatthiasWiesner/tasker"
)

// OpenResponses reads the responses of a task that agents have and have not ended, by
// endpoint.
func (s *Store) OpenResponses(ctx context.Context, task string) ([]tasker.Response, error) {
	var list []tasker.Response
	err := s.view(ctx, "read the open responses", func(c *conn) (err error) {
		list, err = s.responses(ctx, c, task, "AND status IN ('received','running')")
		return err
	})
	return list, err
}

// responses reads those of a task, and since when the endpoints of the open ones are
// silent.
func (s *Store) responses(ctx context.Context, c *conn, task, further string, args ...any) ([]tasker.Response, error) {
	list := []tasker.Response{}
	query := "SELECT " + responseState + " FROM responses WHERE task_id = ? " + further + " ORDER BY endpoint"
	err := c.rows(ctx, query, append([]any{task}, args...), func(r *sql.Rows) error {
		row, err := scanResponse(r)
		if err == nil {
			list = append(list, row.Response)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, r := range list {
		if open(r) {
			names = append(names, r.Endpoint)
		}
	}
	since, err := s.silent(ctx, c, names)
	for i, r := range list {
		if open(r) {
			list[i].SilentSince = since[r.Endpoint].at()
		}
	}
	return list, err
}

// silent is when those of the endpoints that are not connected were last heard of.
func (s *Store) silent(ctx context.Context, c *conn, names []string) (map[string]micros, error) {
	if len(names) == 0 {
		return nil, nil
	}
	now, err := s.now(ctx, c)
	if err != nil {
		return nil, err
	}
	since := map[string]micros{}
	for names := range slices.Chunk(names, 1000) {
		query := "SELECT name, last_seen FROM endpoints WHERE name IN (" + marks(len(names)) + ") AND (connected = 0 OR silent_at <= ?)"
		err := c.rows(ctx, query, append(anys(names), now), func(r *sql.Rows) error {
			var name string
			var seen micros
			err := r.Scan(&name, &seen)
			since[name] = seen
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return since, nil
}

// open: an agent has it and has not ended it.
func open(r tasker.Response) bool { return r.Status == tasker.Received || r.Status == tasker.Running }
