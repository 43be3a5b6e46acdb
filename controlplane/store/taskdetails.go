package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// Output is the stored output of an attempt.
type Output struct {
	Endpoint  string
	Attempt   int
	Chunks    []tasker.Chunk
	Bytes     int64
	Truncated bool
}

// Output reads the output of the last attempt.
func (r *TaskReader) Output(ctx context.Context, taskType, ref, endpoint string) (Output, error) {
	out := Output{Endpoint: endpoint, Chunks: []tasker.Chunk{}}
	if tasker.ValidateEndpoint(endpoint) != nil {
		return out, fmt.Errorf("read the output: %w", ErrNotFound)
	}
	err := r.db.View(ctx, "read the output", func(c *sqldb.Conn) error {
		task, err := findTask(ctx, c, taskType, ref)
		if err != nil {
			return err
		}
		err = c.QueryRow(ctx, "SELECT attempt, output_bytes, output_truncated FROM responses WHERE task_id = ? AND endpoint = ?",
			[]any{task.ID, endpoint}, &out.Attempt, &out.Bytes, &out.Truncated)
		if err != nil {
			return err
		}
		query := "SELECT at_byte, data FROM chunks WHERE task_id = ? AND endpoint = ? AND attempt = ? ORDER BY at_byte"
		return c.Query(ctx, query, []any{task.ID, endpoint, out.Attempt}, func(rows *sql.Rows) error {
			var chunk tasker.Chunk
			err := rows.Scan(&chunk.Offset, &chunk.Data)
			out.add(chunk)
			return err
		})
	})
	return out, err
}

// add appends a chunk without the bytes that are there already.
func (o *Output) add(chunk tasker.Chunk) {
	end := int64(0)
	if n := len(o.Chunks); n > 0 {
		end = o.Chunks[n-1].Offset + int64(len(o.Chunks[n-1].Data))
	}
	if overlap := min(max(0, end-chunk.Offset), int64(len(chunk.Data))); overlap > 0 {
		chunk.Offset, chunk.Data = chunk.Offset+overlap, chunk.Data[overlap:]
	}
	if len(chunk.Data) > 0 {
		o.Chunks = append(o.Chunks, chunk)
	}
}

// Controls lists the requests to change a task, oldest first.
func (r *TaskReader) Controls(ctx context.Context, id string) ([]tasker.Control, error) {
	query := "SELECT action, at, by_whom FROM controls WHERE task_id = ? ORDER BY version"
	list, err := sqldb.List(ctx, r.db.Reader(), query, []any{id}, func(rows *sql.Rows, c *tasker.Control) error {
		var at sqldb.Micros
		err := rows.Scan(&c.Action, &at, &c.By)
		c.At = at.Time()
		return err
	})
	return list, r.db.Wrap("read the requests on a task", err)
}

// UndoneBy returns the id of the task that undoes the last attempt of a task, finished
// or not; empty if there is none.
func (r *TaskReader) UndoneBy(ctx context.Context, id string) (string, error) {
	const action = "read the undo task"
	task, c := &taskRow{Task: tasker.Task{ID: id}}, r.db.Reader()
	err := c.QueryRow(ctx, "SELECT type, attempt FROM tasks WHERE id = ?", []any{id}, &task.Type, &task.attempt)
	if err != nil {
		return "", r.db.Wrap(action, err)
	}
	undo, err := findUndo(ctx, c, task)
	return undo, r.db.Wrap(action, err)
}
