package store_test

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

func TestReopen(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		task := f.create(t, request("a", "lb-1", "lb-2"))
		f.send(t, 2)
		f.apply(t, update("lb-1", task.ID, 1, 1, tasker.Succeeded))
		again := &fixture{clock: f.clock, Store: storetest.Open(t, f.options)}
		again.want(t, task.ID, "running", "lb-1", "succeeded", "lb-2", "sent")
		f.Add(time.Minute)
		again.expire(t, 1)
		f.want(t, task.ID, "incomplete", "lb-1", "succeeded", "lb-2", "missing")
	})
}

func TestSchema(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		must(t, f.Check(t.Context()))
		task := f.create(t, request("a", "lb-1"))
		must(t, f.Migrate(t.Context()))
		f.want(t, task.ID, "pending", "lb-1", "pending")
		must(t, f.Reset(t.Context()))
		if _, err := f.Task(t.Context(), "ping", "a"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("after the reset: %v, want ErrNotFound", err)
		}
		must(t, f.Check(t.Context()))
	})
}

// Several control planes may start at once on a database without tables.
func TestConcurrentMigrate(t *testing.T) {
	t.Parallel()
	for name, options := range storetest.Dialects() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(t)
			var wg sync.WaitGroup
			for range 4 {
				s, err := store.Open(t.Context(), o)
				must(t, err)
				defer func() { must(t, s.Close()) }()
				wg.Go(func() {
					if err := s.Migrate(t.Context()); err != nil {
						t.Errorf("Migrate: %v", err)
					}
					if err := s.Check(t.Context()); err != nil {
						t.Errorf("Check: %v", err)
					}
				})
			}
			wg.Wait()
		})
	}
}

// The lock's name is part of the protocol between versions: a control plane of another
// version that migrates the same database must be waited for.
func TestMigrateWaitsForTheLockOfOtherVersions(t *testing.T) {
	t.Parallel()
	o := storetest.MySQL(t)
	s, err := store.Open(t.Context(), o)
	must(t, err)
	defer func() { must(t, s.Close()) }()
	conn, err := s.DB().Conn(t.Context())
	must(t, err)
	defer func() { must(t, conn.Close()) }()
	database := o.URI[strings.LastIndex(o.URI, "/")+1:]
	name := fmt.Sprintf("tasker.%x", sha1.Sum([]byte(database)))
	query := func(query string, args ...any) (n int) {
		t.Helper()
		must(t, conn.QueryRowContext(t.Context(), query, args...).Scan(&n))
		return n
	}
	if query("SELECT GET_LOCK(?, 0)", name) != 1 {
		t.Fatal("the lock is not free")
	}
	done := make(chan error, 1)
	go func() { done <- s.Migrate(t.Context()) }()
	wait.For(t, "the migration to wait for the lock", func() bool {
		return query("SELECT COUNT(*) FROM information_schema.processlist WHERE db = ? AND state = 'User lock'", database) == 1
	})
	// goose may create its own table first.
	if query("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = ? AND table_name = 'tasks'", database) != 0 {
		t.Error("tables were created without the lock")
	}
	if query("SELECT RELEASE_LOCK(?)", name) != 1 {
		t.Error("the lock was not held")
	}
	must(t, <-done)
	must(t, s.Check(t.Context()))
}

func TestCheckWithoutTables(t *testing.T) {
	t.Parallel()
	for name, options := range storetest.Dialects() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := store.Open(t.Context(), options(t))
			must(t, err)
			defer func() { must(t, s.Close()) }()
			if err := s.Check(t.Context()); !errors.Is(err, store.ErrSchema) || !strings.Contains(err.Error(), "initialize") {
				t.Errorf("Check = %v, want ErrSchema with advice", err)
			}
		})
	}
}

func TestOpenWithoutDatabase(t *testing.T) {
	t.Parallel()
	o := storetest.MySQL(t)
	o.URI += "_missing"
	s, err := store.Open(t.Context(), o)
	if err == nil {
		must(t, s.Close())
	}
	if err == nil || !strings.Contains(err.Error(), "create it with tasker-controlplane initialize") {
		t.Errorf("Open = %v, want an error with advice", err)
	}
}

// Both run on this machine, so the database's clock is close to this machine's.
func TestDatabaseClock(t *testing.T) {
	t.Parallel()
	for name, options := range storetest.Dialects() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := storetest.Open(t, options(t))
			task, _, err := s.CreateTask(t.Context(), request("a", "lb-1"))
			must(t, err)
			if d := time.Since(task.CreatedAt).Abs(); d > time.Minute {
				t.Errorf("created at %v, which is %v off", task.CreatedAt, d)
			}
			if z := task.CreatedAt.Location(); z != time.UTC {
				t.Errorf("created at in %v", z)
			}
		})
	}
}

// Transports drop expired orders by this machine's clock, from which the database's clock
// may differ by hours.
func TestOrdersExpireByTheLocalClock(t *testing.T) {
	t.Parallel()
	for name, off := range map[string]time.Duration{"behind": -time.Hour, "ahead": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := storetest.MySQL(t)
			o.Types = types()
			s := storetest.Open(t, o)
			s.Writer().SetMaxOpenConns(1) // the connection whose clock is set, and then stands still
			_, err := s.Writer().ExecContext(t.Context(), "SET timestamp = ?", time.Now().Add(off).Unix())
			must(t, err)
			_, _, err = s.CreateTask(t.Context(), request("a", "lb-1"))
			must(t, err)
			claims, err := s.ClaimDue(t.Context(), 10)
			must(t, err)
			hello := tasker.Report{Endpoint: "lb-1", Hello: &tasker.Hello{Session: "s"}}
			applied, err := s.Apply(t.Context(), []tasker.Report{hello})
			must(t, err)
			if len(claims) != 1 || len(applied.Orders) != 1 {
				t.Fatalf("%d claims, %d orders", len(claims), len(applied.Orders))
			}
			for _, order := range []tasker.Order{claims[0].Order, applied.Orders[0]} {
				if left := time.Until(order.Expires); left < 0 || left > time.Minute {
					t.Errorf("the order expires in %v: %+v", left, order)
				}
			}
			if d := claims[0].Order.Assignment.Deadline; time.Until(d.Add(-off)).Abs() > time.Minute {
				t.Errorf("the deadline, %v, is not by the database's clock", d)
			}
		})
	}
}

func TestSQLiteFilesArePrivate(t *testing.T) {
	t.Parallel()
	o := storetest.SQLite(t)
	o.DataDir = filepath.Join(o.DataDir, "a b?c#d%20", "data")
	s := storetest.Open(t, o)
	_, _, err := s.CreateTask(t.Context(), request("a", "lb-1"))
	must(t, err)
	entries, err := os.ReadDir(o.DataDir)
	must(t, err)
	if len(entries) == 0 {
		t.Error("no file in the data directory")
	}
	for _, e := range entries {
		info, err := e.Info()
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", e.Name(), info.Mode().Perm())
		}
	}
	info, err := os.Stat(o.DataDir)
	must(t, err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v, want 0700", info.Mode().Perm())
	}
}

// Every commit is synced to the disk, so that an accepted task survives a power cut.
func TestSQLiteIsDurable(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t, storetest.SQLite(t))
	for pragma, want := range map[string]string{"synchronous": "2", "journal_mode": "wal", "foreign_keys": "1", "busy_timeout": "10000"} {
		var got string
		must(t, s.Writer().QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got))
		if got != want {
			t.Errorf("%s is %s, want %s", pragma, got, want)
		}
	}
}

func TestBadURI(t *testing.T) {
	t.Parallel()
	for _, uri := range []string{
		"", "sqlite:", "postgres://tasker:s3cret@h/db", "mysql://", "mysql://tasker:s3cret@h", "mysql://tasker:s3cret@h/a/b",
		"mysql://tasker:s3cret%zz@h/db", "mysql://tasker:s3cret@h:port/db", "mysql://tasker:s3cret@h/db?x=1", "mysql://tasker:s3cret@h/db?tls=maybe",
		"mysql://tasker:s3/cret@h/db",
	} {
		s, err := store.Open(t.Context(), store.Options{URI: uri, DataDir: t.TempDir()})
		if err == nil {
			t.Errorf("Open(%q) succeeded", uri)
			_ = s.Close()
		} else if strings.Contains(err.Error(), "cret") {
			t.Errorf("%q: the error shows the password: %v", uri, err)
		}
	}
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	const address = "127.0.0.1:1" // no server listens there
	_, err := store.Open(t.Context(), store.Options{URI: "mysql://tasker:s3cret@" + address + "/tasker"})
	if !errors.Is(err, store.ErrUnavailable) || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("Open = %v, want ErrUnavailable without the password", err)
	}
	err = store.CreateDatabase(t.Context(), "mysql://tasker:s3cret@"+address+"/tasker")
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("CreateDatabase = %v, want ErrUnavailable", err)
	}
}

func TestCreateDatabase(t *testing.T) {
	t.Parallel()
	must(t, store.CreateDatabase(t.Context(), "sqlite:x.db"))
	o := storetest.MySQL(t)
	must(t, store.CreateDatabase(t.Context(), o.URI)) // it exists
	s := storetest.Open(t, o)
	_, err := s.DB().ExecContext(t.Context(), "DROP DATABASE "+o.URI[strings.LastIndex(o.URI, "/")+1:])
	must(t, err)
	must(t, store.CreateDatabase(t.Context(), o.URI))
	again := storetest.Open(t, o)
	must(t, again.Check(t.Context()))
}

// An ended context is not an error of the database.
func TestEndedContext(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, _, err := f.CreateTask(ctx, request("a", "lb-1"))
		if !errors.Is(err, context.Canceled) || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("CreateTask = %v, want context.Canceled", err)
		}
		f.create(t, request("a", "lb-1"))
	})
}
