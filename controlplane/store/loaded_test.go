package store_test

import (
	"errors"
	"flag"
	"fmt"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// loaded is the number of finished tasks with ten responses in the database of
// BenchmarkLoaded.
var loaded = flag.Int("loaded", 2000, "finished tasks in the database of BenchmarkLoaded")

// load inserts n finished tasks with ten responses: copies of one task.
func load(tb testing.TB, f *fixture, n int) {
	tb.Helper()
	ctx := tb.Context()
	endpoints := names(10)
	task := f.create(tb, request("template", endpoints...))
	f.send(tb, len(endpoints))
	var reports []tasker.Report
	for _, e := range endpoints {
		f.apply(tb, hello(e, "s"))
		reports = append(reports, update(e, task.ID, 1, 1, tasker.Succeeded))
	}
	f.apply(tb, reports...)
	// numbered is an expression: the prefix and a number of table k, from first on.
	numbered := func(prefix string, first int) string {
		if f.Dialect() == "mysql" {
			return fmt.Sprintf("CONCAT('%s', LPAD(k.n + %d, 12, '0'))", prefix, first)
		}
		return fmt.Sprintf("printf('%s%%012d', k.n + %d)", prefix, first)
	}
	columns := func(table string, replaced map[string]string) (list, values string) {
		rows, err := f.DB().QueryContext(ctx, "SELECT * FROM "+table+" WHERE 1 = 0")
		must(tb, err)
		defer func() { must(tb, errors.Join(rows.Err(), rows.Close())) }()
		names, err := rows.Columns()
		must(tb, err)
		selected := make([]string, len(names))
		for i, c := range names {
			if selected[i] = "t." + c; replaced[c] != "" {
				selected[i] = replaced[c]
			}
		}
		return strings.Join(names, ", "), strings.Join(selected, ", ")
	}
	exec := func(query string, args ...any) {
		_, err := f.Writer().ExecContext(ctx, query, args...)
		must(tb, err)
	}
	exec("CREATE TABLE k (n BIGINT NOT NULL PRIMARY KEY)")
	const step = 1000
	for n := range step {
		exec("INSERT INTO k (n) VALUES (?)", n)
	}
	for first := 0; first < n; first += step {
		id := numbered("00000000-0000-7000-8000-", first) // older than any other
		tasks, taskValues := columns("tasks", map[string]string{"id": id, "identifier": numbered("loaded-", first)})
		responses, responseValues := columns("responses", map[string]string{"task_id": id})
		exec("INSERT INTO tasks ("+tasks+") SELECT "+taskValues+" FROM tasks t, k WHERE t.id = ?", task.ID)
		exec("INSERT INTO responses ("+responses+") SELECT "+responseValues+" FROM responses t, k WHERE t.task_id = ? ORDER BY k.n", task.ID)
	}
	exec("DROP TABLE k")
	if f.Dialect() == "mysql" {
		exec("ANALYZE TABLE tasks, responses")
	}
}

// operations are the frequent operations of a control plane.
func operations(tb testing.TB, f *fixture) map[string]func(i int) {
	tb.Helper()
	ctx := tb.Context()
	list := func(status tasker.TaskStatus) func(int) {
		return func(int) {
			_, err := f.Tasks(ctx, store.TaskQuery{Type: "ping", Status: status, Limit: 50})
			must(tb, err)
		}
	}
	return map[string]func(int){
		"list":            list(""),
		"list, succeeded": list(tasker.TaskSucceeded),
		"list, running":   list(tasker.TaskRunning),
		"get": func(int) {
			_, _, err := f.TaskWithResponses(ctx, "ping", "template")
			must(tb, err)
		},
		"claim nothing": func(int) { f.claim(tb, 0) },
		"a task to its end": func(i int) {
			task := f.create(tb, request(fmt.Sprint("new-", i), "ep-0001"))
			f.send(tb, 1)
			f.apply(tb, update("ep-0001", task.ID, 1, 1, tasker.Succeeded))
		},
		"hello": func(i int) { f.apply(tb, hello("another", fmt.Sprint("s-", i))) },
		"count": func(int) {
			_, err := f.Stats(ctx)
			must(tb, err)
		},
	}
}

// Run it with go test -run '^$' -bench Loaded -loaded 1000000 ./controlplane/store
func BenchmarkLoaded(b *testing.B) {
	benchmark(b, func(b *testing.B, f *fixture) {
		load(b, f, *loaded)
		ops := operations(b, f)
		for name, op := range ops {
			n := 0
			b.Run(name, func(b *testing.B) {
				for b.Loop() {
					op(n)
					n++
				}
			})
		}
	})
}

// The number of statements of an operation does not grow with the number of tasks.
func TestStatementsDoNotGrowWithTasks(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		count := func(round int) map[string]int {
			counts := map[string]int{}
			for name, op := range operations(t, f) {
				n := 0
				f.Trace(func(string, []any) { n++ })
				op(round)
				f.Trace(nil)
				counts[name] = n
			}
			return counts
		}
		load(t, f, 1)
		few := count(1)
		for i := range 300 {
			f.create(t, request(fmt.Sprint("more-", i), names(10)...))
		}
		f.send(t, 1000)
		f.send(t, 1000)
		f.send(t, 1000)
		many := count(2)
		for name, n := range few {
			if many[name] > n || n == 0 {
				t.Errorf("%s: %d statements, and %d with more tasks", name, n, many[name])
			}
		}
	})
}
