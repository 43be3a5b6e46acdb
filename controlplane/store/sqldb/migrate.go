package sqldb

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

// versionTable records which migrations were applied.
const versionTable = "schema_versions"

func (db *DB) provider() (*goose.Provider, error) {
	files, err := fs.Sub(db.migrations, db.dialect.name)
	if err != nil {
		return nil, fmt.Errorf("read the migrations: %w", err)
	}
	p, err := goose.NewProvider(db.dialect.goose, db.migrator, files,
		goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()),
		goose.WithSessionLocker(db.dialect.migrationLock))
	if err != nil {
		return nil, fmt.Errorf("read the migrations: %w", err)
	}
	return p, nil
}

// Migrate brings the tables up to date; it never deletes data. Several processes
// may call it at once.
func (db *DB) Migrate(ctx context.Context) error {
	p, err := db.provider()
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return db.Wrap("migrate the database", err)
	}
	return db.Check(ctx)
}

// Reset drops the tables, in this order, and creates them again.
func (db *DB) Reset(ctx context.Context, tables ...string) error {
	for _, table := range append(tables, versionTable) {
		if _, err := db.migrator.ExecContext(ctx, "DROP TABLE IF EXISTS "+table); err != nil {
			return db.Wrap("reset the database", fmt.Errorf("drop %s: %w", table, err))
		}
	}
	return db.Migrate(ctx)
}

// Check returns an error unless the database responds and has the right schema. If the last
// write has failed, for example because the disk is full, it also tries to write.
func (db *DB) Check(ctx context.Context) error {
	if err := db.reader.PingContext(ctx); err != nil {
		return db.Wrap("check the database", err)
	}
	p, err := db.provider()
	if err != nil {
		return err
	}
	sources := p.ListSources()
	want := sources[len(sources)-1].Version
	var have int64
	err = db.reader.QueryRowContext(ctx, "SELECT COALESCE(MAX(version_id), 0) FROM "+versionTable).Scan(&have)
	switch {
	case err != nil && db.dialect.classify(err) == classOther && ctx.Err() == nil:
		return fmt.Errorf("%w: the tables are missing; run tasker-controlplane initialize", ErrSchema)
	case err != nil:
		return db.Wrap("check the database", err)
	case have < want:
		return fmt.Errorf("%w: version %d is older than %d, which this program needs; run tasker-controlplane initialize", ErrSchema, have, want)
	case have > want:
		return fmt.Errorf("%w: version %d is newer than %d, which this program needs; run the program that created it", ErrSchema, have, want)
	}
	return db.checkWrite(ctx)
}
