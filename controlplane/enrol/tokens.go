package enrol

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/MatthiasWiesner/tasker"
)

// What a token may be.
const (
	MinTTL  = time.Minute
	MaxTTL  = 720 * time.Hour
	MaxUses = 100_000
)

// listed is how many tokens Tokens returns at most.
const listed = 1000

// CreateToken makes a token that is good for maxUses endpoints within ttl. Token in
// what it returns is the secret, which nobody can read again.
func (s *Service) CreateToken(ctx context.Context, ttl time.Duration, maxUses int, by string) (tasker.EnrolToken, error) {
	if ttl < MinTTL || ttl > MaxTTL {
		return tasker.EnrolToken{}, fmt.Errorf("ttl: %w: %s is not between %s and %s", ErrInvalid, ttl, tasker.Duration(MinTTL), tasker.Duration(MaxTTL))
	}
	if maxUses < 1 || maxUses > MaxUses {
		return tasker.EnrolToken{}, fmt.Errorf("max_uses: %w: %d is not between 1 and %d", ErrInvalid, maxUses, MaxUses)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return tasker.EnrolToken{}, fmt.Errorf("make the id of an enrolment token: %w", err)
	}
	var random [32]byte
	if _, err := rand.Read(random[:]); err != nil {
		return tasker.EnrolToken{}, fmt.Errorf("make an enrolment token: %w", err)
	}
	secret := tasker.EnrolTokenPrefix + base64.RawURLEncoding.EncodeToString(random[:])
	t, err := s.opts.Store.CreateEnrolToken(ctx, tasker.EnrolToken{ID: id.String(), CreatedBy: by, MaxUses: maxUses}, digest(secret), ttl)
	if err != nil {
		return tasker.EnrolToken{}, err
	}
	t.Token = secret
	s.opts.Log.Info("enrolment token created", "id", t.ID, "by", by, "max_uses", maxUses, "expires_at", t.ExpiresAt)
	return t, nil
}

// Tokens lists the newest thousand, the newest first, without their secrets.
func (s *Service) Tokens(ctx context.Context) ([]tasker.EnrolToken, error) {
	return s.opts.Store.EnrolTokens(ctx, listed)
}

// RevokeToken makes a token useless. Those who have enrolled with it stay.
func (s *Service) RevokeToken(ctx context.Context, id string) error {
	return s.opts.Store.RevokeEnrolToken(ctx, id)
}
