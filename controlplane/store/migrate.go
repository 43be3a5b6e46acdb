package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"

	"github.com/MatthiasWiesner/tasker/controlplane/store/migrations"
)

// versionTable records which migrations were applied.
const versionTable = "schema_versions"

// tables are all tables, in an order in which they can be dropped.
func tables() []string {
	return []string{"chunks", "responses", "rollouts", "controls", "callbacks", "tasks", "endpoints", "enrol_tokens", "credentials", "signing_keys", "leases", versionTable}
}

func (s *Store) provider() (*goose.Provider, error) {
	files, err := fs.Sub(migrations.Files, s.dialect.name)
	if err != nil {
		return nil, fmt.Errorf("read the migrations: %w", err)
	}
	p, err := goose.NewProvider(s.dialect.goose, s.slow, files,
		goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()),
		goose.WithSessionLocker(s.dialect.migrating))
	if err != nil {
		return nil, fmt.Errorf("read the migrations: %w", err)
	}
	return p, nil
}

// Migrate brings the tables up to date; it never destroys anything. Several
// processes may call it at once.
func (s *Store) Migrate(ctx context.Context) error {
	p, err := s.provider()
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return s.fail("migrate the database", err)
	}
	return s.Check(ctx)
}

// Reset drops every table and makes them anew.
func (s *Store) Reset(ctx context.Context) error {
	defer s.forgetCredentials()
	for _, table := range tables() {
		if _, err := s.slow.ExecContext(ctx, "DROP TABLE IF EXISTS "+table); err != nil {
			return s.fail("reset the database", fmt.Errorf("drop %s: %w", table, err))
		}
	}
	return s.Migrate(ctx)
}

// Check says whether the database answers and has the right schema.
func (s *Store) Check(ctx context.Context) error {
	if err := s.read.PingContext(ctx); err != nil {
		return s.fail("check the database", err)
	}
	p, err := s.provider()
	if err != nil {
		return err
	}
	sources := p.ListSources()
	want := sources[len(sources)-1].Version
	var have int64
	err = s.read.QueryRowContext(ctx, "SELECT COALESCE(MAX(version_id), 0) FROM "+versionTable).Scan(&have)
	switch {
	case err != nil && s.dialect.fault(err) == faultOther && ctx.Err() == nil:
		return fmt.Errorf("%w: the tables are missing; run tasker-controlplane initialize", ErrSchema)
	case err != nil:
		return s.fail("check the database", err)
	case have < want:
		return fmt.Errorf("%w: it is of version %d, this program needs %d; run tasker-controlplane initialize", ErrSchema, have, want)
	case have > want:
		return fmt.Errorf("%w: it is of version %d, this program knows %d; run the newer program that made it", ErrSchema, have, want)
	}
	return nil
}

// fail says what was being done, and marks what means that the database is away.
func (s *Store) fail(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, ErrUnavailable):
	case s.dialect.fault(err) == faultUnavailable, s.dialect.fault(err) == faultBusy:
		return fmt.Errorf("%s: %w: %w", doing, ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// alone says of an error of a transaction that did the work of several whether
// it may be the fault of one of them.
func (s *Store) alone(err error) bool {
	return !errors.Is(err, ErrUnavailable) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}
