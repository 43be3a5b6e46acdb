package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/groupcommit"
)

// Store is a database of tasks.
type Store struct {
	dialect *dialect
	write   *sql.DB
	read    *sql.DB // the same as write on MySQL
	// slow is for changes of the tables, which may take their time; the same as
	// write on SQLite.
	slow      *sql.DB
	types     map[string]tasker.TaskType
	heartbeat time.Duration
	fleet     fleet
	clock     func() time.Time
	onCommit  func(Commit)
	sends     func(orders int) bool
	creations *groupcommit.Group[*creation]
	entries   *groupcommit.Group[*entry]
	flights   flights
	// standing and owners are what is known of credentials, on SQLite: on MySQL other
	// control planes enrol and revoke, too.
	standing *known[string, Credential]
	owners   *known[Digest, string]
	// trace, if set, is given every statement.
	trace func(query string, args []any)
}

// Open opens the database and checks that it answers; it does not migrate.
func Open(ctx context.Context, o Options) (*Store, error) {
	s := &Store{
		types:     make(map[string]tasker.TaskType, len(o.Types)),
		heartbeat: cmp.Or(o.Heartbeat, 10*time.Second),
		clock:     o.Clock,
		onCommit:  o.OnCommit,
		sends:     o.Sends,
		flights:   flights{patience: o.MarkPatience, open: map[flight]chan struct{}{}},
	}
	s.creations = groupcommit.New(createWeight, s.alone, s.create)
	s.entries = groupcommit.New(entryWeight, s.alone, s.enter)
	for _, t := range o.Types {
		s.types[t.Name] = t
	}
	if s.onCommit == nil {
		s.onCommit = func(Commit) {}
	}
	switch scheme, rest, _ := strings.Cut(o.URI, ":"); {
	case scheme == "sqlite" && rest != "":
		if !filepath.IsAbs(rest) {
			rest = filepath.Join(o.DataDir, rest)
		}
		file, err := filepath.Abs(rest)
		if err != nil {
			return nil, fmt.Errorf("open the database: %w", err)
		}
		s.dialect = sqliteDialect(file)
		if s.write, s.read, err = openSQLite(ctx, file); err != nil {
			return nil, s.fail("open the database", err)
		}
		s.slow = s.write
		s.standing, s.owners = newKnown[string, Credential](), newKnown[Digest, string]()
	case scheme == "mysql":
		cfg, err := mysqlConfig(o.URI)
		if err != nil {
			return nil, err
		}
		s.dialect = mysqlDialect()
		if s.slow, err = openMySQL(cfg); err != nil {
			return nil, err
		}
		s.slow.SetMaxIdleConns(0)
		cfg.ReadTimeout, cfg.WriteTimeout = mysqlSilence, mysqlSilence
		if s.write, err = openMySQL(cfg); err != nil {
			return nil, err
		}
		s.read = s.write
	default:
		return nil, errors.New("database URI: write sqlite:FILE or mysql://user:password@host:port/database")
	}
	if err := s.read.PingContext(ctx); err != nil {
		if noSuchDatabase(err) {
			err = fmt.Errorf("%w; tasker-controlplane initialize makes it", err)
		}
		return nil, errors.Join(s.fail("open the database", err), s.Close())
	}
	return s, nil
}

// CreateDatabase creates the MySQL database that uri names if it is missing; for
// SQLite there is nothing to do.
func CreateDatabase(ctx context.Context, uri string) error {
	if !strings.HasPrefix(uri, "mysql:") {
		return nil
	}
	s := Store{dialect: mysqlDialect()}
	if err := createMySQL(ctx, uri); err != nil {
		return s.fail("create the database", err)
	}
	return nil
}

// Close closes the database.
func (s *Store) Close() error {
	var err error
	if s.read != s.write {
		err = s.read.Close()
	}
	if s.slow != s.write {
		err = errors.Join(err, s.slow.Close())
	}
	if err = errors.Join(err, s.write.Close()); err != nil {
		return fmt.Errorf("close the database: %w", err)
	}
	return nil
}
