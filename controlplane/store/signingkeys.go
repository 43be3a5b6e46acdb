package store

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// The names of the keys that the control planes sign with.
const (
	OrderKeys    = "orders"
	CallbackKeys = "callbacks"
)

// SigningKey is the record of a key that the control planes sign with. It contains no
// secret.
type SigningKey struct {
	// Name is OrderKeys or CallbackKeys.
	Name string
	// Generation counts the keys of a name from 1.
	Generation int
	// Public is the Ed25519 public key, or the SHA-256 of a secret without a public part.
	Public    []byte
	CreatedAt time.Time
	// SignsFrom is when the control planes begin to sign with the key.
	SignsFrom time.Time
	// Retires is when the key before is no longer accepted; nil for generation 1.
	Retires *time.Time
	// Signature is the endorsement by the key before; empty if there is none.
	Signature []byte
	// Origin is the host and the file where the key was created.
	Origin string
}

// maxOrigin bounds the length of SigningKey.Origin.
const maxOrigin = 512

// signingKeyColumns are the columns of public_keys.
//
//nolint:gochecknoglobals // constant
var signingKeyColumns = sqldb.NewColumns(
	sqldb.Text("name", func(k *SigningKey) *string { return &k.Name }),
	sqldb.Field("generation", func(k *SigningKey) *int { return &k.Generation }),
	sqldb.Bytes("public", func(k *SigningKey) *[]byte { return &k.Public }),
	sqldb.Time("created_at", func(k *SigningKey) *time.Time { return &k.CreatedAt }),
	sqldb.Time("signs_from", func(k *SigningKey) *time.Time { return &k.SignsFrom }),
	sqldb.TimeOrNull("retires", func(k *SigningKey) **time.Time { return &k.Retires }),
	sqldb.Bytes("signature", func(k *SigningKey) *[]byte { return &k.Signature }),
	sqldb.Text("origin", func(k *SigningKey) *string { return &k.Origin }),
)

// SigningKeys stores the public part of the keys that the control planes sign with.
type SigningKeys struct {
	db *database
	// newest is the id of the newest key that signs orders; nil while it is unknown.
	newest atomic.Pointer[string]
}

// SetNewestKey sets the id of the newest key that signs orders. An agent whose heartbeat
// reports another one gets a welcome, which introduces the key.
func (k *SigningKeys) SetNewestKey(id string) { k.newest.Store(&id) }

// isOutdated reports whether id, the newest key that an agent accepts, is not the newest
// signing key. An empty id is never outdated: the agent is not enrolled or cannot rotate.
func (k *SigningKeys) isOutdated(id string) bool {
	newest := k.newest.Load()
	return newest != nil && id != "" && id != *newest
}

// ListSigningKeys lists the keys of a name, oldest first.
func (k *SigningKeys) ListSigningKeys(ctx context.Context, name string) ([]SigningKey, error) {
	rows, err := signingKeyColumns.Select(ctx, k.db.Reader(), "FROM public_keys WHERE name = ? ORDER BY generation", name)
	keys := make([]SigningKey, len(rows))
	for i, row := range rows {
		keys[i] = *row
	}
	return keys, k.db.Wrap("read the signing keys", err)
}

// AddSigningKeys stores the next keys of their names in one transaction, at the database's
// time if CreatedAt or SignsFrom is zero. The transaction removes the seeds that an older
// version has stored. ErrGenerationExists means that one of the generations exists; then
// nothing is stored.
func (k *SigningKeys) AddSigningKeys(ctx context.Context, keys ...SigningKey) error {
	err := k.db.update(ctx, "store the signing keys", func(tx *tx) error {
		for _, key := range keys {
			if err := addSigningKey(ctx, tx, key); err != nil {
				return err
			}
		}
		return nil
	})
	if k.db.IsDuplicate(err) {
		return ErrGenerationExists
	}
	if err == nil && k.db.Dialect() == "sqlite" {
		// The write-ahead log may contain the page with a seed.
		writer, _ := k.db.Pools()
		_, err = writer.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
		err = k.db.Wrap("remove the seeds from the write-ahead log", err)
	}
	return err
}

func addSigningKey(ctx context.Context, tx *tx, key SigningKey) error {
	if key.CreatedAt.IsZero() {
		key.CreatedAt = tx.Now.Time()
	}
	if key.SignsFrom.IsZero() {
		key.SignsFrom = tx.Now.Time()
	}
	key.Signature = append([]byte{}, key.Signature...) // not NULL
	key.Origin = truncate(key.Origin, maxOrigin)
	if err := signingKeyColumns.Insert(ctx, &tx.Conn, "public_keys", &key); err != nil {
		return err
	}
	// The update overwrites the seed before its row is removed.
	if err := tx.Exec(ctx, "UPDATE signing_keys SET seed = ? WHERE name = ?", make([]byte, 32), key.Name); err != nil {
		return err
	}
	return tx.Exec(ctx, "DELETE FROM signing_keys WHERE name = ?", key.Name)
}

// Seed returns the seed that an older version has stored; nil if there is none.
func (k *SigningKeys) Seed(ctx context.Context, name string) ([]byte, error) {
	var seed []byte
	err := k.db.Reader().QueryRow(ctx, "SELECT seed FROM signing_keys WHERE name = ?", []any{name}, &seed)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return seed, k.db.Wrap("read the seed of a signing key", err)
}
