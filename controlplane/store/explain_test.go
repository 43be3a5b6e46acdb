package store_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// No statement reads a whole table or index: the database explains every statement of
// the store, on tables of realistic size.
func TestEveryStatementUsesAnIndex(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		fill(t, f)
		type statement struct {
			query string
			args  []any
		}
		statements := map[string]statement{} // by shape
		list := regexp.MustCompile(`\(\?(,\?)*\)(,\(\?(,\?)*\))*`)
		f.Trace(func(query string, args []any) {
			statements[list.ReplaceAllString(query, "(?)")+fmt.Sprint(len(args))] = statement{query, args}
		})
		callEverything(t, f)
		f.Trace(nil)
		shapes := map[string]bool{}
		for key, s := range statements {
			query := s.query
			if f.Dialect() == "mysql" {
				rejectDeprecated(t, f, query, s.args)
			}
			if strings.HasPrefix(query, "INSERT") || strings.Contains(query, "UNIX_TIMESTAMP") {
				continue
			}
			shapes[strings.TrimRight(key, "0123456789")] = true
			if bad := explain(t, f, query, s.args); bad != "" {
				t.Errorf("%s\n  %s", query, bad)
			}
		}
		if len(shapes) < 25 {
			t.Errorf("%d statements ran, want at least 25", len(shapes))
		}
	})
}

// rejectDeprecated reports the server's warnings that a statement uses deprecated syntax. It
// finds them only on a server that has deprecated it.
func rejectDeprecated(t *testing.T, f *fixture, query string, args []any) {
	t.Helper()
	conn, err := f.DB().Conn(t.Context())
	must(t, err)
	defer func() { must(t, conn.Close()) }()
	if _, err := conn.ExecContext(t.Context(), "EXPLAIN "+query, args...); err != nil {
		t.Fatalf("explain %s: %v", query, err)
	}
	warnings, err := conn.QueryContext(t.Context(), "SHOW WARNINGS")
	must(t, err)
	defer func() { must(t, warnings.Close()) }()
	for warnings.Next() {
		var level, message string
		var code int
		must(t, warnings.Scan(&level, &code, &message))
		if code == 1287 || code == 1681 { // deprecated, with and without a replacement
			t.Errorf("%s\n  %s", query, message)
		}
	}
	must(t, warnings.Err())
}

// explain returns the parts of a statement's query plan that scan a table or index.
func explain(t *testing.T, f *fixture, query string, args []any) string {
	t.Helper()
	prefix := "EXPLAIN QUERY PLAN "
	if f.Dialect() == "mysql" {
		prefix = "EXPLAIN "
	}
	rows, err := f.DB().QueryContext(t.Context(), prefix+query, args...)
	if err != nil {
		t.Fatalf("explain %s: %v", query, err)
	}
	defer func() { must(t, rows.Close()) }()
	columns, err := rows.Columns()
	must(t, err)
	var bad []string
	for rows.Next() {
		values := make([]*string, len(columns))
		dest := make([]any, len(columns))
		for i := range values {
			dest[i] = &values[i]
		}
		must(t, rows.Scan(dest...))
		row := map[string]string{}
		for i, v := range values {
			if v != nil {
				row[strings.ToLower(columns[i])] = *v
			}
		}
		if f.Dialect() == "mysql" {
			// This index has one row per endpoint, however long the history.
			perEndpoint := row["type"] == "index" && row["key"] == "endpoints_by_silence"
			derived := strings.HasPrefix(row["table"], "<") // the bounded inner query of a count
			if (row["type"] == "ALL" || row["type"] == "index") && !derived && !perEndpoint {
				bad = append(bad, fmt.Sprint(row))
			}
		} else if d := row["detail"]; strings.HasPrefix(d, "SCAN ") && d != "SCAN due" && d != "SCAN counted" && d != "SCAN CONSTANT ROW" {
			// A partial index of due rows is meant to be scanned.
			if !regexp.MustCompile(`^SCAN (tasks|responses) USING (COVERING )?INDEX \w+_due$`).MatchString(d) {
				bad = append(bad, d)
			}
		}
	}
	must(t, rows.Err())
	return strings.Join(bad, "\n  ")
}
