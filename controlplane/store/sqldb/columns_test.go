package sqldb_test

import (
	"encoding/json"
	"math"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// row has one field for each kind of column.
type row struct {
	ID       string
	Count    int
	Payload  json.RawMessage
	At       time.Time
	Maybe    *time.Time
	Wait     time.Duration
	Number   int
	List     []string
	Stored   sqldb.Micros
	ExitCode *int
}

func columns() sqldb.Columns[row] {
	return sqldb.NewColumns(
		sqldb.Text("id", func(r *row) *string { return &r.ID }),
		sqldb.Field("count", func(r *row) *int { return &r.Count }).Mutable(),
		sqldb.Bytes("payload", func(r *row) *json.RawMessage { return &r.Payload }).Optional(),
		sqldb.Time("at", func(r *row) *time.Time { return &r.At }),
		sqldb.TimeOrNull("maybe", func(r *row) **time.Time { return &r.Maybe }).Optional(),
		sqldb.Duration("wait", func(r *row) *time.Duration { return &r.Wait }),
		sqldb.IntOrNull("number", func(r *row) *int { return &r.Number }).Optional(),
		sqldb.JSON("list", func(r *row) *[]string { return &r.List }).Optional(),
		sqldb.Field("stored", func(r *row) *sqldb.Micros { return &r.Stored }).Optional(),
		sqldb.Field("exit_code", func(r *row) **int { return &r.ExitCode }).Optional(),
	)
}

func TestColumns(t *testing.T) {
	t.Parallel()
	db := openTable(t)
	at, code := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), 0
	full := &row{"a", 1, json.RawMessage(`{"x":1}`), at, &at, 2 * time.Second, 3, []string{"b"}, 4, &code}
	empty := &row{ID: "b", At: at}
	err := db.Update(t.Context(), "insert", func(tx *sqldb.Tx) error {
		if err := columns().Insert(t.Context(), &tx.Conn, "rows", full, empty); err != nil {
			return err
		}
		full.Count = 5
		return columns().Upsert(t.Context(), &tx.Conn, "rows", 1, full, &row{ID: "c", At: at})
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := columns().SelectIn(t.Context(), db.Reader(), "FROM rows WHERE id", []string{"a", "b", "none"}, " ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]*row{full, empty}, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	var nulls int
	query := `SELECT (payload IS NULL) + (maybe IS NULL) + (number IS NULL) + (list IS NULL) + (stored IS NULL) + (exit_code IS NULL) FROM rows WHERE id = 'b'`
	if err := db.Reader().QueryRow(t.Context(), query, nil, &nulls); err != nil || nulls != 6 {
		t.Errorf("%d columns of the empty row are NULL, %v; want 6", nulls, err)
	}
}

func TestColumnsSubsets(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff([]string{"count"}, columns().Mutable().Names()); diff != "" {
		t.Errorf("mutable columns (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"id", "count", "at", "wait"}, columns().Required().Names()); diff != "" {
		t.Errorf("required columns (-want +got):\n%s", diff)
	}
}

// openTable opens a SQLite database with the table rows.
func openTable(t *testing.T) *sqldb.DB {
	t.Helper()
	create := "-- +goose Up\nCREATE TABLE rows (id TEXT PRIMARY KEY, count INTEGER, payload BLOB, at INTEGER, maybe INTEGER, wait INTEGER, number INTEGER, list TEXT, stored INTEGER, exit_code INTEGER) STRICT;\n"
	db, err := sqldb.Open(t.Context(), sqldb.Options{
		URI: "sqlite:test.db", DataDir: t.TempDir(),
		Migrations: fstest.MapFS{"sqlite/00001_rows.sql": {Data: []byte(create)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}

// Bytes that cannot be part of an answer are replaced when they are read.
func TestStoredJSONIsValidWhenRead(t *testing.T) {
	t.Parallel()
	db := openTable(t)
	asJSON := sqldb.NewColumns(
		sqldb.Text("id", func(r *row) *string { return &r.ID }),
		sqldb.JSONText("payload", func(r *row) *json.RawMessage { return &r.Payload }),
	)
	for stored, want := range map[string]string{
		`{"x":1}`:             `{"x":1}`,
		"{\"x\":\"Gr\xfcn\"}": "{\"x\":\"Gr\uFFFDn\"}",
		"{\xff}":              "",
		"nope":                "",
	} {
		err := db.Update(t.Context(), "insert", func(tx *sqldb.Tx) error {
			return columns().Upsert(t.Context(), &tx.Conn, "rows", 1, &row{ID: "a", Payload: json.RawMessage(stored), At: time.Unix(1, 0)})
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := asJSON.Select(t.Context(), db.Reader(), "FROM rows")
		if err != nil || len(got) != 1 || string(got[0].Payload) != want {
			t.Errorf("%q is read as %q, %v; want %q", stored, got[0].Payload, err, want)
		}
	}
}

func TestStoredTimesCanBeEncoded(t *testing.T) {
	t.Parallel()
	for m, want := range map[sqldb.Micros]string{
		math.MinInt64:             `"0001-01-01T00:00:00Z"`,
		-62135596800000001:        `"0001-01-01T00:00:00Z"`,
		0:                         `"1970-01-01T00:00:00Z"`,
		253402300800000000:        `"9999-12-31T23:59:59.999999Z"`,
		math.MaxInt64:             `"9999-12-31T23:59:59.999999Z"`,
		sqldb.Micros(1_000_000_1): `"1970-01-01T00:00:10.000001Z"`,
	} {
		if got, err := json.Marshal(m.Time()); err != nil || string(got) != want {
			t.Errorf("%d is %s, %v; want %s", m, got, err, want)
		}
	}
}
