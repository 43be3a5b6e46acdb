package store

import (
	"context"
	"fmt"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// tokenRow is a row of enrol_tokens.
type tokenRow struct {
	tasker.EnrolToken
	hash []byte
}

// The columns of enrol_tokens, and those that are read.
//
//nolint:gochecknoglobals // constant
var (
	tokenColumns = sqldb.NewColumns(
		sqldb.Text("id", func(t *tokenRow) *string { return &t.ID }),
		sqldb.Time("created_at", func(t *tokenRow) *time.Time { return &t.CreatedAt }),
		sqldb.Text("created_by", func(t *tokenRow) *string { return &t.CreatedBy }),
		sqldb.Time("expires_at", func(t *tokenRow) *time.Time { return &t.ExpiresAt }),
		sqldb.Field("max_uses", func(t *tokenRow) *int { return &t.MaxUses }),
		sqldb.Field("uses", func(t *tokenRow) *int { return &t.Uses }),
		sqldb.TimeOrNull("revoked_at", func(t *tokenRow) **time.Time { return &t.RevokedAt }),
		sqldb.JSON("labels", func(t *tokenRow) *map[string]string { return &t.Labels }),
	)
	newTokenColumns = tokenColumns.With(sqldb.Bytes("hash", func(t *tokenRow) *[]byte { return &t.hash }))
)

// CreateEnrolToken stores a new token with its ID, CreatedBy, MaxUses and Labels, which
// expires after ttl, and returns it as stored.
func (e *Enrolment) CreateEnrolToken(ctx context.Context, t tasker.EnrolToken, digest Digest, ttl time.Duration) (tasker.EnrolToken, error) {
	row := tokenRow{t, digest[:]}
	row.Uses, row.RevokedAt, row.CreatedBy = 0, nil, truncate(t.CreatedBy, maxName)
	err := e.db.update(ctx, "create an enrolment token", func(tx *tx) error {
		row.CreatedAt, row.ExpiresAt = tx.Now.Time(), tx.Now.Add(ttl).Time()
		return newTokenColumns.Insert(ctx, &tx.Conn, "enrol_tokens", &row)
	})
	return row.EnrolToken, err
}

// EnrolTokens lists up to limit tokens, newest first.
func (e *Enrolment) EnrolTokens(ctx context.Context, limit int) ([]tasker.EnrolToken, error) {
	list, err := queryTokens(ctx, e.db.Reader(), "id < ? ORDER BY id DESC LIMIT ?", "~", limit) // ids sort before "~"
	return list, e.db.Wrap("list enrolment tokens", err)
}

func queryTokens(ctx context.Context, c *sqldb.Conn, where string, args ...any) ([]tasker.EnrolToken, error) {
	rows, err := tokenColumns.Select(ctx, c, "FROM enrol_tokens WHERE "+where, args...)
	list := make([]tasker.EnrolToken, len(rows))
	for i, row := range rows {
		list[i] = row.EnrolToken
	}
	return list, err
}

// RevokeEnrolToken revokes a token; a revoked one stays as it is. Endpoints that were
// enrolled with the token stay enrolled.
func (e *Enrolment) RevokeEnrolToken(ctx context.Context, id string) error {
	return e.db.update(ctx, "revoke an enrolment token", func(tx *tx) error {
		if err := tx.QueryRow(ctx, "SELECT id FROM enrol_tokens WHERE id = ?"+tx.ForUpdate, []any{id}, new(string)); err != nil {
			return err
		}
		return tx.Exec(ctx, "UPDATE enrol_tokens SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", tx.Now, id)
	})
}

// lockToken reads and locks the token with the digest, or returns ErrToken. The lock
// serializes concurrent enrolments with the same token.
func lockToken(ctx context.Context, t *tx, digest Digest) (tasker.EnrolToken, error) {
	tokens, err := queryTokens(ctx, &t.Conn, "hash = ?"+t.ForUpdate, digest[:])
	switch {
	case err != nil:
		return tasker.EnrolToken{}, fmt.Errorf("read an enrolment token: %w", err)
	case len(tokens) == 0:
		return tasker.EnrolToken{}, fmt.Errorf("%w: it is not known", ErrToken)
	}
	return tokens[0], nil
}

// TokenError is the refusal of an enrolment token that is known. It wraps ErrToken.
type TokenError struct {
	// ID is the id of the token, which is no secret.
	ID     string
	reason string
}

// Error returns the reason.
func (e *TokenError) Error() string { return ErrToken.Error() + ": " + e.reason }

// Unwrap returns ErrToken.
func (e *TokenError) Unwrap() error { return ErrToken }

// useToken counts one more use of a locked token, or returns ErrToken with the reason.
func useToken(ctx context.Context, t *tx, token tasker.EnrolToken) error {
	switch {
	case token.RevokedAt != nil:
		return &TokenError{token.ID, "it was revoked at " + token.RevokedAt.Format(time.RFC3339)}
	case sqldb.MicrosOf(token.ExpiresAt) <= t.Now:
		return &TokenError{token.ID, "it expired at " + token.ExpiresAt.Format(time.RFC3339)}
	case token.Uses >= token.MaxUses:
		return &TokenError{token.ID, fmt.Sprintf("it was valid for %d enrolments and is used up", token.MaxUses)}
	}
	return t.Exec(ctx, "UPDATE enrol_tokens SET uses = uses + 1 WHERE id = ?", token.ID)
}
