// Package storetest creates databases for tests. Tests of packages that use the store
// share it.
package storetest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// Env is the environment variable that names the MySQL server, as
// mysql://user:password@host:port/.
const Env = "TASKER_TEST_MYSQL"

// Dialects returns a function for each dialect that returns options for a new database.
func Dialects() map[string]func(testing.TB) store.Options {
	return map[string]func(testing.TB) store.Options{"sqlite": SQLite, "mysql": MySQL}
}

// SQLite returns options for a new database file in the test's temporary directory.
func SQLite(t testing.TB) store.Options {
	t.Helper()
	return store.Options{URI: "sqlite:tasker.db", DataDir: t.TempDir()}
}

// MySQL returns options for a new, empty database on the server that TASKER_TEST_MYSQL
// names. The database is dropped when the test ends. Without the variable the test is
// skipped; with an unreachable server it fails.
func MySQL(t testing.TB) store.Options {
	t.Helper()
	server := os.Getenv(Env)
	if server == "" {
		t.Skipf("tests on MySQL are skipped because %s is not set; make test sets it", Env)
	}
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "mysql" || u.Host == "" {
		t.Fatalf("%s: want mysql://user:password@host:port/", Env)
	}
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.User = "tcp", u.Host, u.User.Username()
	cfg.Passwd, _ = u.User.Password()
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		t.Fatalf("%s: %v", Env, err)
	}
	db := sql.OpenDB(connector)
	name := "tasker_test_" + strings.ToLower(rand.Text())
	if _, err := db.ExecContext(t.Context(), "CREATE DATABASE `"+name+"`"); err != nil {
		_ = db.Close()
		t.Fatalf("%s: create a database: %v", Env, err)
	}
	t.Cleanup(func() {
		if _, err := db.ExecContext(context.Background(), "DROP DATABASE `"+name+"`"); err != nil {
			t.Errorf("drop database %s: %v", name, err)
		}
		_ = db.Close()
	})
	u.Path = "/" + name
	return store.Options{URI: u.String(), DataDir: t.TempDir()}
}

// Open opens and migrates the database, and closes it when the test ends.
func Open(t testing.TB, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatalf("open the store: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatalf("migrate the store: %v", err)
	}
	return s
}

// Exec runs a statement on the database of the options, which must be migrated. It changes
// what the store has no method for, such as rows of an older version.
func Exec(t testing.TB, o store.Options, statement string, args ...any) {
	t.Helper()
	db, err := open(o)
	if err == nil {
		_, err = db.ExecContext(t.Context(), statement, args...)
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func open(o store.Options) (*sql.DB, error) {
	if file, ok := strings.CutPrefix(o.URI, "sqlite:"); ok {
		return sql.Open("sqlite", "file:"+filepath.Join(o.DataDir, file)+"?_pragma=busy_timeout(10000)")
	}
	u, err := url.Parse(o.URI)
	if err != nil {
		return nil, err
	}
	password, _ := u.User.Password()
	return sql.Open("mysql", u.User.Username()+":"+password+"@tcp("+u.Host+")"+u.Path)
}
