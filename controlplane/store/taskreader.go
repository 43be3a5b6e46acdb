package store

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"slices"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// The sizes of a page of a list.
const (
	defaultPage = 50
	maxPage     = 1000
)

// TaskQuery selects tasks, newest first.
type TaskQuery struct {
	Type string
	// Status selects one status; empty selects all.
	Status tasker.TaskStatus
	Limit  int
	// Cursor is Next of the page before.
	Cursor string
}

// TaskPage is one page of tasks.
type TaskPage struct {
	Tasks []tasker.Task
	// Next is empty on the last page.
	Next string
}

// TaskReader reads tasks, their responses and output.
type TaskReader struct{ db *database }

// Task finds a task by id, then by identifier.
func (r *TaskReader) Task(ctx context.Context, taskType, ref string) (tasker.Task, error) {
	t, err := findTask(ctx, r.db.Reader(), taskType, ref)
	return t, r.db.Wrap("read a task", err)
}

// findTask finds a task by id, then by identifier.
func findTask(ctx context.Context, c *sqldb.Conn, taskType, ref string) (tasker.Task, error) {
	if tasker.ValidateIdentifier(ref) != nil {
		return tasker.Task{}, ErrNotFound // the database refuses text that is not UTF-8
	}
	t, err := queryTask(ctx, c, " WHERE id = ? AND type = ?", ref, taskType)
	if errors.Is(err, ErrNotFound) {
		t, err = queryTask(ctx, c, " WHERE type = ? AND identifier = ?", taskType, ref)
	}
	return t, err
}

// readTask reads the whole task with the id.
func readTask(ctx context.Context, c *sqldb.Conn, id string) (tasker.Task, error) {
	return queryTask(ctx, c, " WHERE id = ?", id)
}

// queryTask reads the first of the whole tasks that match, or returns ErrNotFound.
func queryTask(ctx context.Context, c *sqldb.Conn, clauses string, args ...any) (tasker.Task, error) {
	tasks, err := queryTasks(ctx, c, clauses, args...)
	switch {
	case err != nil:
		return tasker.Task{}, err
	case len(tasks) == 0:
		return tasker.Task{}, ErrNotFound
	}
	return tasks[0], nil
}

// queryTasks reads whole tasks with their rollouts; clauses follow the table's name.
func queryTasks(ctx context.Context, c *sqldb.Conn, clauses string, args ...any) ([]tasker.Task, error) {
	rows, err := taskBodyColumns.Select(ctx, c, "FROM tasks"+clauses, args...)
	if err != nil {
		return nil, err
	}
	return withRollouts(ctx, c, rows)
}

// TaskWithResponses reads a task and its responses in one consistent state.
func (r *TaskReader) TaskWithResponses(ctx context.Context, taskType, ref string) (task tasker.Task, responses []tasker.Response, err error) {
	err = r.db.View(ctx, "read a task and its responses", func(c *sqldb.Conn) (err error) {
		if task, err = findTask(ctx, c, taskType, ref); err != nil {
			return err
		}
		responses, err = r.responses(ctx, c, task.ID, "")
		return err
	})
	return task, responses, err
}

// Changes reads the task by id and the responses whose version is above since, by
// endpoint, in one consistent state.
func (r *TaskReader) Changes(ctx context.Context, id string, since int64) (task tasker.Task, responses []tasker.Response, err error) {
	err = r.db.View(ctx, "read the changes of a task", func(c *sqldb.Conn) (err error) {
		if task, err = readTask(ctx, c, id); err != nil {
			return err
		}
		responses, err = r.responses(ctx, c, id, "AND version > ?", since)
		return err
	})
	return task, responses, err
}

// TaskVersion reads the version of a task, which every change of the task increases.
func (r *TaskReader) TaskVersion(ctx context.Context, id string) (version int64, err error) {
	err = r.db.Reader().QueryRow(ctx, "SELECT version FROM tasks WHERE id = ?", []any{id}, &version)
	return version, r.db.Wrap("read the version of the task", err)
}

// OpenResponses reads the responses of a task that agents have received and not
// ended, by endpoint.
func (r *TaskReader) OpenResponses(ctx context.Context, id string) (responses []tasker.Response, err error) {
	err = r.db.View(ctx, "read the open responses", func(c *sqldb.Conn) (err error) {
		responses, err = r.responses(ctx, c, id, "AND "+statusIn(isWithAgent))
		return err
	})
	return responses, err
}

// responses reads the task's responses that match, with the silence of their
// endpoints.
func (r *TaskReader) responses(ctx context.Context, c *sqldb.Conn, task, and string, args ...any) ([]tasker.Response, error) {
	rows, err := responseColumns.Select(ctx, c, "FROM responses WHERE task_id = ? "+and+" ORDER BY endpoint", append([]any{task}, args...)...)
	if err != nil {
		return nil, err
	}
	list := make([]tasker.Response, len(rows))
	for i, row := range rows {
		list[i] = row.Response
	}
	return list, r.addSilence(ctx, c, list)
}

// addSilence sets SilentSince of the responses whose agents have an assignment and are
// not connected.
func (r *TaskReader) addSilence(ctx context.Context, c *sqldb.Conn, list []tasker.Response) error {
	index := map[string]int{}
	var names []string
	for i, response := range list {
		if isWithAgent(response.Status) {
			index[response.Endpoint], names = i, append(names, response.Endpoint)
		}
	}
	if len(names) == 0 {
		return nil
	}
	now, err := r.db.NowOn(ctx, c)
	if err != nil {
		return err
	}
	for names := range slices.Chunk(names, sqldb.MaxListed) {
		query := "SELECT name, last_seen FROM endpoints WHERE name IN (" + sqldb.Placeholders(len(names)) + ") AND (connected = 0 OR silent_at <= ?)"
		err := c.Query(ctx, query, append(sqldb.Args(names), now), func(r *sql.Rows) error {
			var name string
			var seen sqldb.Micros
			err := r.Scan(&name, &seen)
			list[index[name]].SilentSince = seen.TimeOrNil()
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Tasks lists tasks, newest first. A cursor that no page returned is ErrCursor.
func (r *TaskReader) Tasks(ctx context.Context, q TaskQuery) (TaskPage, error) {
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
	c := r.db.Reader()
	tasks, err := queryTasks(ctx, c, c.UseIndex(index)+where+" ORDER BY id DESC LIMIT ?", append(args, limit+1)...)
	if err != nil {
		return TaskPage{}, r.db.Wrap("list tasks", err)
	}
	page := TaskPage{Tasks: tasks}
	if len(tasks) > limit {
		page.Tasks = tasks[:limit]
		page.Next = base64.RawURLEncoding.EncodeToString([]byte(tasks[limit-1].ID))
	}
	return page, nil
}
