package store

import (
	"context"
	"database/sql"
	"encoding/base64"
	"fmt"

	"github.com/MatthiasWiesner/tasker"
)

// The sizes of a page of a list.
const (
	defaultPage = 50
	maxPage     = 1000
)

// Task finds a task by id, then by identifier.
func (s *Store) Task(ctx context.Context, taskType, ref string) (tasker.Task, error) {
	t, err := s.direct().find(ctx, taskType, ref)
	return t, s.fail("read a task", err)
}

// find finds a task by id, then by identifier.
func (c *conn) find(ctx context.Context, taskType, ref string) (tasker.Task, error) {
	if tasker.ValidateIdentifier(ref) != nil {
		return tasker.Task{}, ErrNotFound // and what is no UTF-8 is kept from the server
	}
	var list []*taskRow
	scan := func(r *sql.Rows) error {
		t, err := scanTask(r, true)
		list = append(list, t)
		return err
	}
	err := c.rows(ctx, "SELECT "+taskBody+" FROM tasks WHERE id = ? AND type = ?", []any{ref, taskType}, scan)
	if err == nil && len(list) == 0 {
		err = c.rows(ctx, "SELECT "+taskBody+" FROM tasks WHERE type = ? AND identifier = ?", []any{taskType, ref}, scan)
	}
	switch {
	case err != nil:
		return tasker.Task{}, err
	case len(list) == 0:
		return tasker.Task{}, ErrNotFound
	}
	tasks, err := c.withRollouts(ctx, list)
	if err != nil {
		return tasker.Task{}, err
	}
	return tasks[0], nil
}

// TaskWithResponses reads both as of one moment.
func (s *Store) TaskWithResponses(ctx context.Context, taskType, ref string) (tasker.Task, []tasker.Response, error) {
	var task tasker.Task
	var responses []tasker.Response
	err := s.view(ctx, "read a task and its responses", func(c *conn) (err error) {
		if task, err = c.find(ctx, taskType, ref); err != nil {
			return err
		}
		responses, err = s.responses(ctx, c, task.ID, "")
		return err
	})
	return task, responses, err
}

// Changes reads the task by id and the responses whose version is above since,
// as of one moment, by endpoint.
func (s *Store) Changes(ctx context.Context, id string, since int64) (tasker.Task, []tasker.Response, error) {
	var task tasker.Task
	var responses []tasker.Response
	err := s.view(ctx, "read the changes of a task", func(c *conn) error {
		tasks, err := c.readTasks(ctx, []string{id})
		if err != nil {
			return err
		}
		if len(tasks) == 0 {
			return ErrNotFound
		}
		task = tasks[0]
		responses, err = s.responses(ctx, c, id, "AND version > ?", since)
		return err
	})
	return task, responses, err
}

// Tasks lists tasks, newest first. A cursor that no page gave is ErrCursor.
func (s *Store) Tasks(ctx context.Context, q TaskQuery) (TaskPage, error) {
	limit := q.Limit
	if limit <= 0 {
		limit = defaultPage
	}
	limit = min(limit, maxPage)
	index, where, args := "tasks_by_type", " WHERE type = ?", []any{q.Type}
	if q.Status != "" {
		index, where, args = "tasks_by_status", where+" AND status = ?", append(args, string(q.Status))
	}
	if q.Cursor != "" {
		before, err := base64.RawURLEncoding.DecodeString(q.Cursor)
		if err != nil || tasker.ValidateIdentifier(string(before)) != nil {
			return TaskPage{}, ErrCursor
		}
		where, args = where+" AND id < ?", append(args, string(before))
	}
	page := TaskPage{Tasks: []tasker.Task{}}
	query := "SELECT " + taskBody + " FROM tasks" + s.dialect.use(index) + where + " ORDER BY id DESC LIMIT ?"
	var list []*taskRow
	c := s.direct()
	err := c.rows(ctx, query, append(args, limit+1), func(r *sql.Rows) error {
		row, err := scanTask(r, true)
		list = append(list, row)
		return err
	})
	if err == nil {
		page.Tasks, err = c.withRollouts(ctx, list)
	}
	if err != nil {
		return TaskPage{}, s.fail("list tasks", err)
	}
	if len(page.Tasks) > limit {
		page.Tasks = page.Tasks[:limit]
		page.Next = base64.RawURLEncoding.EncodeToString([]byte(page.Tasks[limit-1].ID))
	}
	return page, nil
}

// Output reads what the last attempt printed.
func (s *Store) Output(ctx context.Context, taskType, ref, endpoint string) (Output, error) {
	out := Output{Endpoint: endpoint, Chunks: []tasker.Chunk{}}
	if tasker.ValidateEndpoint(endpoint) != nil {
		return out, fmt.Errorf("read the output: %w", ErrNotFound)
	}
	err := s.view(ctx, "read the output", func(c *conn) error {
		task, err := c.find(ctx, taskType, ref)
		if err != nil {
			return err
		}
		err = c.row(ctx, "SELECT attempt, output_bytes, output_truncated FROM responses WHERE task_id = ? AND endpoint = ?",
			[]any{task.ID, endpoint}, &out.Attempt, &out.Bytes, &out.Truncated)
		if err != nil {
			return err
		}
		query := "SELECT at_byte, data FROM chunks WHERE task_id = ? AND endpoint = ? AND attempt = ? ORDER BY at_byte"
		end := int64(0) // of what is already there
		return c.rows(ctx, query, []any{task.ID, endpoint, out.Attempt}, func(r *sql.Rows) error {
			var chunk tasker.Chunk
			if err := r.Scan(&chunk.Offset, &chunk.Data); err != nil {
				return err
			}
			if known := min(max(0, end-chunk.Offset), int64(len(chunk.Data))); known > 0 {
				chunk.Offset, chunk.Data = chunk.Offset+known, chunk.Data[known:]
			}
			if len(chunk.Data) > 0 {
				out.Chunks = append(out.Chunks, chunk)
				end = chunk.Offset + int64(len(chunk.Data))
			}
			return nil
		})
	})
	return out, err
}
