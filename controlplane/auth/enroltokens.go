package auth

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
)

// The bounds of an enrolment token.
const (
	MinTTL  = time.Minute
	MaxTTL  = 720 * time.Hour
	MaxUses = 100_000
)

// maxListedTokens bounds the list that Tokens returns.
const maxListedTokens = 1000

// CreateToken creates an enrolment token with which maxUses endpoints can enrol within
// ttl. They get the labels. Only the returned Token field contains the token; the store
// has its digest.
func (e *Enroller) CreateToken(ctx context.Context, ttl time.Duration, maxUses int, labels map[string]string, by string) (tasker.EnrolToken, error) {
	if ttl < MinTTL || ttl > MaxTTL {
		return tasker.EnrolToken{}, fmt.Errorf("ttl: %w: %s is not between %s and %s", ErrInvalid, ttl, tasker.Duration(MinTTL), tasker.Duration(MaxTTL))
	}
	if maxUses < 1 || maxUses > MaxUses {
		return tasker.EnrolToken{}, fmt.Errorf("max_uses: %w: %d is not between 1 and %d", ErrInvalid, maxUses, MaxUses)
	}
	if err := tasker.ValidateLabels(labels); err != nil {
		return tasker.EnrolToken{}, fmt.Errorf("labels: %w: %w", ErrInvalid, err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return tasker.EnrolToken{}, fmt.Errorf("create the id of an enrolment token: %w", err)
	}
	var random [32]byte
	_, _ = rand.Read(random[:]) // It never fails.
	token := tasker.EnrolTokenPrefix + base64.RawURLEncoding.EncodeToString(random[:])
	t, err := e.opts.Store.CreateEnrolToken(ctx, tasker.EnrolToken{ID: id.String(), CreatedBy: by, MaxUses: maxUses, Labels: labels}, digest(token), ttl)
	if err != nil {
		return tasker.EnrolToken{}, err
	}
	t.Token = token
	e.opts.Log.Info("enrolment token created", "id", t.ID, "by", by, "max_uses", maxUses, "labels", labels, "expires_at", t.ExpiresAt)
	return t, nil
}

// Tokens lists the newest maxListedTokens enrolment tokens, newest first, without the
// tokens themselves.
func (e *Enroller) Tokens(ctx context.Context) ([]tasker.EnrolToken, error) {
	return e.opts.Store.EnrolTokens(ctx, maxListedTokens)
}

// RevokeToken revokes an enrolment token. Endpoints that have enrolled with it stay
// enrolled.
func (e *Enroller) RevokeToken(ctx context.Context, id string) error {
	return e.opts.Store.RevokeEnrolToken(ctx, id)
}

// TokenID returns the id of the enrolment token that an error of Enrol is about; empty if
// the token is not known.
func TokenID(err error) string {
	if refused, ok := errors.AsType[*store.TokenError](err); ok {
		return refused.ID
	}
	return ""
}
