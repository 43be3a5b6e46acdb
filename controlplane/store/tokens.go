package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// Digest is the SHA-256 of a secret; the secret itself is not kept.
type Digest [32]byte

const tokenColumns = "id, created_at, created_by, expires_at, max_uses, uses, revoked_at"

func scanToken(row scanner) (tasker.EnrolToken, error) {
	var t tasker.EnrolToken
	var created, expires, revoked micros
	if err := row.Scan(&t.ID, &created, &t.CreatedBy, &expires, &t.MaxUses, &t.Uses, &revoked); err != nil {
		return t, fmt.Errorf("read an enrolment token: %w", err)
	}
	t.CreatedAt, t.ExpiresAt, t.RevokedAt = created.time(), expires.time(), revoked.at()
	return t, nil
}

// CreateEnrolToken stores a new token, by its ID, CreatedBy and MaxUses, that
// expires after ttl, and returns it as stored.
func (s *Store) CreateEnrolToken(ctx context.Context, t tasker.EnrolToken, digest Digest, ttl time.Duration) (tasker.EnrolToken, error) {
	t.Uses, t.RevokedAt, t.CreatedBy = 0, nil, cut(t.CreatedBy, maxName)
	err := s.update(ctx, "create an enrolment token", func(tx *tx) error {
		expires := tx.now.add(ttl)
		t.CreatedAt, t.ExpiresAt = tx.now.time(), expires.time()
		return tx.insertRows(ctx, "enrol_tokens", append(words(tokenColumns), "hash"), "",
			[][]any{{t.ID, tx.now, t.CreatedBy, expires, t.MaxUses, 0, micros(0), digest[:]}})
	})
	return t, err
}

// EnrolTokens lists the newest tokens first, up to limit; ids are of ASCII, none
// begins with "~".
func (s *Store) EnrolTokens(ctx context.Context, limit int) ([]tasker.EnrolToken, error) {
	list := []tasker.EnrolToken{}
	err := s.direct().rows(ctx, "SELECT "+tokenColumns+" FROM enrol_tokens WHERE id < ? ORDER BY id DESC LIMIT ?", []any{"~", limit}, func(r *sql.Rows) error {
		t, err := scanToken(r)
		list = append(list, t)
		return err
	})
	return list, s.fail("list enrolment tokens", err)
}

// RevokeEnrolToken makes a token useless; for one that is so already it does
// nothing. Those who have enrolled with it stay.
func (s *Store) RevokeEnrolToken(ctx context.Context, id string) error {
	return s.update(ctx, "revoke an enrolment token", func(tx *tx) error {
		if err := tx.row(ctx, "SELECT id FROM enrol_tokens WHERE id = ?"+tx.forUpdate, []any{id}, new(string)); err != nil {
			return err
		}
		return tx.exec(ctx, "UPDATE enrol_tokens SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", tx.now, id)
	})
}

// lockToken reads and locks the token with the digest, or returns ErrToken. Those
// who enrol with one token come one after the other.
func (t *tx) lockToken(ctx context.Context, digest Digest) (tasker.EnrolToken, error) {
	var token tasker.EnrolToken
	found := false
	err := t.rows(ctx, "SELECT "+tokenColumns+" FROM enrol_tokens WHERE hash = ?"+t.forUpdate, []any{digest[:]}, func(r *sql.Rows) error {
		var err error
		token, err = scanToken(r)
		found = true
		return err
	})
	if err == nil && !found {
		err = fmt.Errorf("%w: it is not known here", ErrToken)
	}
	return token, err
}

// useToken counts one more use of a token that is locked, or says with ErrToken
// why there is none.
func (t *tx) useToken(ctx context.Context, token tasker.EnrolToken) error {
	switch {
	case token.RevokedAt != nil:
		return fmt.Errorf("%w: it was revoked at %s", ErrToken, token.RevokedAt.Format(time.RFC3339))
	case microsOf(token.ExpiresAt) <= t.now:
		return fmt.Errorf("%w: it expired at %s", ErrToken, token.ExpiresAt.Format(time.RFC3339))
	case token.Uses >= token.MaxUses:
		return fmt.Errorf("%w: it was good for %d and is used up", ErrToken, token.MaxUses)
	}
	return t.exec(ctx, "UPDATE enrol_tokens SET uses = uses + 1 WHERE id = ?", token.ID)
}
