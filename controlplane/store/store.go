// Package store keeps tasks, responses and endpoints in SQLite or MySQL. All SQL
// of the control plane is here: the queries in this package, connections and
// transactions in sqldb.
//
// Every change is one transaction. A read that must be consistent runs in one snapshot;
// others may run several queries. Methods are safe for concurrent use, also by several
// control planes on one MySQL. The rows are the outbox: a task or response
// whose next_send_at is not after the database's clock is due to be sent.
package store

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/rollout/decision"
	"github.com/MatthiasWiesner/tasker/controlplane/store/migrations"
	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// The errors of this package; match them with errors.Is.
var (
	// ErrNotFound: no such task, response or endpoint.
	ErrNotFound = sqldb.ErrNotFound
	// ErrConflict: another request has created a task with this identifier.
	ErrConflict = errors.New("identifier is taken by a different task")
	// ErrUnfinished: the last attempt has not ended, so no new one can begin.
	ErrUnfinished = errors.New("the last attempt has not ended")
	// ErrNothingToRetry: every response succeeded.
	ErrNothingToRetry = errors.New("nothing to retry")
	// ErrNoRollout: the task has no waves.
	ErrNoRollout = errors.New("is not a rollout")
	// ErrRolloutEnded: the rollout has ended.
	ErrRolloutEnded = decision.ErrEnded
	// ErrNotPaused: the rollout is not paused.
	ErrNotPaused = decision.ErrNotPaused
	// ErrUndoing: the task is being undone, so it cannot be retried yet.
	ErrUndoing = decision.ErrUndoing
	// ErrNothingToUndo: no endpoint has started the task.
	ErrNothingToUndo = errors.New("the task was started nowhere, so there is nothing to undo")
	// ErrLease: another process holds the lease, or the lease has expired.
	ErrLease = errors.New("the lease is not held")
	// ErrCursor: the cursor was not returned with a page of the list.
	ErrCursor = errors.New("cursor was not returned with a page of this list")
	// ErrUnavailable: the database cannot be reached now.
	ErrUnavailable = sqldb.ErrUnavailable
	// ErrToken: the enrolment token is unknown, expired, used up or revoked.
	ErrToken = errors.New("the enrolment token is not valid")
	// ErrTaken: another agent has the endpoint's name or secret.
	ErrTaken = errors.New("is taken")
	// ErrGenerationExists: another process has stored a signing key of this generation.
	ErrGenerationExists = errors.New("the key generation exists")
	// ErrRevoked: the endpoint's secret was revoked.
	ErrRevoked = errors.New("its secret was revoked")
	// ErrSchema: the tables are missing or of another version.
	ErrSchema = sqldb.ErrSchema
)

// Options configure Open.
type Options struct {
	// URI is "sqlite:FILE" (relative to DataDir) or
	// "mysql://user:password@host:port/database".
	URI     string
	DataDir string
	// Types are the configured task types.
	Types []tasker.TaskType
	// Heartbeat is the shortest interval of agents' heartbeats, 10 s when zero. An
	// endpoint that is silent for three intervals counts as disconnected.
	Heartbeat time.Duration
	// TrustAgentLabels makes the labels that an agent reports labels of its endpoint, also
	// if the endpoint is enrolled. A bound label of the same name takes precedence.
	TrustAgentLabels bool
	// Clock replaces the database's clock, for tests.
	Clock func() time.Time
	// OnCommit is called after a commit that changed a task or made an order or rollout
	// due. It must not block.
	OnCommit func(Commit)
}

// Store is an open database. Each embedded type is one part of it.
type Store struct {
	db *database
	*TaskCreator
	*TaskReader
	*TaskController
	*Outbox
	*Inbox
	*Deadlines
	*Rollouts
	*Callbacks
	*EndpointReader
	*EndpointLabels
	*Enrolment
	*SigningKeys
	*Leases
	*Statistics
}

// Open opens the database and checks that it responds; it does not migrate.
func Open(ctx context.Context, o Options) (*Store, error) {
	sql, err := sqldb.Open(ctx, sqldb.Options{URI: o.URI, DataDir: o.DataDir, Migrations: migrations.Files, Clock: o.Clock})
	if err != nil {
		return nil, err
	}
	db := &database{DB: sql, onCommit: o.OnCommit, localClock: o.Clock}
	if db.localClock == nil {
		db.localClock = time.Now
	}
	return newStore(db, o), nil
}

func newStore(db *database, o Options) *Store {
	types := make(map[string]tasker.TaskType, len(o.Types))
	for _, t := range o.Types {
		types[t.Name] = t
	}
	keys := &SigningKeys{db: db}
	orders := orderBuilder{db: db, types: types, keys: keys}
	rate := &heartbeatRate{shortest: cmp.Or(o.Heartbeat, 10*time.Second)}
	writer := newBatchWriter(db, orders, rate)
	return &Store{
		db:             db,
		TaskCreator:    newTaskCreator(db, orders),
		TaskReader:     &TaskReader{db},
		TaskController: &TaskController{db},
		Outbox:         &Outbox{db, orders, writer},
		Inbox:          &Inbox{db, writer},
		Deadlines:      &Deadlines{db},
		Rollouts:       &Rollouts{db},
		Callbacks:      &Callbacks{db},
		EndpointReader: &EndpointReader{db, types, o.TrustAgentLabels},
		EndpointLabels: &EndpointLabels{db},
		Enrolment:      newEnrolment(db),
		SigningKeys:    keys,
		Leases:         &Leases{db},
		Statistics:     &Statistics{db},
	}
}

// CreateDatabase creates the MySQL database that uri names if it is missing. For
// SQLite there is nothing to do.
func CreateDatabase(ctx context.Context, uri string) error { return sqldb.Create(ctx, uri) }

// Close closes the database.
func (s *Store) Close() error { return s.db.Close() }

// Migrate brings the tables up to date; it never deletes data. Several processes
// may call it at once.
func (s *Store) Migrate(ctx context.Context) error { return s.db.Migrate(ctx) }

// Check returns an error unless the database responds and has the right schema.
func (s *Store) Check(ctx context.Context) error { return s.db.Check(ctx) }

// Reset deletes everything and creates the tables again.
func (s *Store) Reset(ctx context.Context) error {
	defer s.clearCaches()
	return s.db.Reset(ctx, "chunks", "responses", "rollouts", "controls", "callbacks", "tasks", "endpoints", "endpoint_labels", "enrol_tokens", "credentials", "revoked_secrets", "signing_keys", "public_keys", "leases")
}

// Now reads the database's clock, by which deadlines are kept.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	now, err := s.db.Now(ctx)
	if err != nil {
		return time.Time{}, s.db.Wrap("read the database's clock", err)
	}
	return now.Time(), nil
}
