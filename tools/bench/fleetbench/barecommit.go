package fleetbench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxCommitConns limits the connections of the bare commits. A server accepts 151 clients
// by default.
const maxCommitConns = 64

// measureCommits measures the least that a POST needs: it commits the rows of each task
// once more, to unused tables, with as many callers as created the tasks.
func (l *loop) measureCommits(ctx context.Context, callers int) ([]time.Duration, error) {
	for _, table := range []string{"tasks", "responses"} {
		if _, err := l.db.ExecContext(ctx, "CREATE TABLE raw_"+table+" LIKE "+table); err != nil {
			return nil, fmt.Errorf("create a table: %w", err)
		}
	}
	tasks, err := l.read(ctx, "SELECT * FROM tasks ORDER BY id DESC LIMIT ?", l.Tasks)
	if err != nil {
		return nil, err
	}
	l.db.SetMaxOpenConns(min(callers, maxCommitConns))
	l.db.SetMaxIdleConns(maxCommitConns)
	took := make([]time.Duration, len(tasks))
	var next atomic.Int64
	var work sync.WaitGroup
	for range min(callers, len(tasks)) {
		work.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(tasks) && l.failed() == nil; i = int(next.Add(1)) - 1 {
				responses, err := l.read(ctx, "SELECT * FROM responses WHERE task_id = ?", tasks[i][0])
				if err == nil {
					took[i], err = l.commit(ctx, tasks[i], responses)
				}
				if err != nil {
					l.fail(err)
				}
			}
		})
	}
	work.Wait()
	return took, l.failed()
}

// commit commits the rows of one task and returns the time that this took.
func (l *loop) commit(ctx context.Context, task []any, responses [][]any) (took time.Duration, err error) {
	began := time.Now()
	tx, err := l.db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	for _, table := range []struct {
		name string
		rows [][]any
	}{{"raw_tasks", [][]any{task}}, {"raw_responses", responses}} {
		row := "(?" + strings.Repeat(",?", len(table.rows[0])-1) + ")"
		var values []any
		for _, r := range table.rows {
			values = append(values, r...)
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO "+table.name+" VALUES "+row+strings.Repeat(","+row, len(table.rows)-1), values...); err != nil {
			return 0, errors.Join(err, tx.Rollback())
		}
	}
	err = tx.Commit()
	return time.Since(began), err
}

// read returns the rows of a query; no rows is an error.
func (l *loop) read(ctx context.Context, query string, args ...any) ([][]any, error) {
	rows, err := l.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read the stored rows: %w", err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var all [][]any
	for rows.Next() {
		row, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	if len(all) == 0 {
		return nil, errors.Join(rows.Err(), sql.ErrNoRows)
	}
	return all, rows.Err()
}
