package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
	"github.com/MatthiasWiesner/tasker/internal/reportrules"
)

// attemptOutput is the output of one attempt in a batch of reports.
type attemptOutput struct {
	chunks []tasker.Chunk
	// size is the size of the output according to the last report.
	size int64
}

// outputBatch is the output in a batch of reports.
type outputBatch map[AttemptKey]*attemptOutput

// add adds the output of an update of a response's attempt. After the end of the attempt
// only an update that was overtaken has output, within the size of the final report.
func (b *outputBatch) add(r tasker.Response, u update) {
	if len(u.Output) == 0 {
		return
	}
	size := u.OutputBytes
	if r.Status.Ended() && !r.Presumed {
		if u.Seq >= r.Seq {
			return
		}
		size = min(size, r.OutputBytes)
	}
	if *b == nil {
		*b = outputBatch{}
	}
	key := AttemptKey{u.task, u.endpoint, u.Attempt}
	o := (*b)[key]
	if o == nil {
		o = &attemptOutput{}
		(*b)[key] = o
	}
	o.chunks, o.size = append(o.chunks, u.Output...), max(o.size, size)
}

// write stores the parts of the output that the rules of reports allow.
func (b outputBatch) write(ctx context.Context, c *sqldb.Conn) error {
	stored, err := b.readSpans(ctx, c)
	if err != nil {
		return err
	}
	var rows [][]any
	for _, k := range slices.SortedFunc(maps.Keys(b), compareAttempts) {
		chunks := reportrules.NewOutput(b[k].chunks, b[k].size, stored[k])
		slices.SortFunc(chunks, func(x, y tasker.Chunk) int { return cmp.Compare(x.Offset, y.Offset) })
		for _, chunk := range chunks {
			rows = append(rows, []any{k.TaskID, k.Endpoint, k.Attempt, chunk.Offset, chunk.Data})
		}
	}
	columns := []string{"task_id", "endpoint", "attempt", "at_byte", "data"}
	if err := c.InsertMissing(ctx, "chunks", columns, 4, rows); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

func compareAttempts(x, y AttemptKey) int {
	return cmp.Or(cmp.Compare(x.TaskID, y.TaskID), cmp.Compare(x.Endpoint, y.Endpoint), cmp.Compare(x.Attempt, y.Attempt))
}

// readSpans reads which parts of the output are stored.
func (b outputBatch) readSpans(ctx context.Context, c *sqldb.Conn) (map[AttemptKey][]reportrules.Span, error) {
	var keys []responseKey
	for k := range b {
		keys = append(keys, responseKey{k.TaskID, k.Endpoint})
	}
	stored := map[AttemptKey][]reportrules.Span{}
	for _, condition := range keyConditions(keys) {
		query := "SELECT task_id, endpoint, attempt, at_byte, LENGTH(data) FROM chunks WHERE " + condition.where
		err := c.Query(ctx, query, condition.args, func(r *sql.Rows) error {
			var k AttemptKey
			var s reportrules.Span
			err := r.Scan(&k.TaskID, &k.Endpoint, &k.Attempt, &s.Offset, &s.Length)
			if b[k] != nil {
				stored[k] = append(stored[k], s)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read the stored output: %w", err)
		}
	}
	return stored, nil
}
