package enrol

import (
	"context"
	"fmt"
	"time"
)

// Identify says whose secret it is; ErrNotFound when it is nobody's, or was revoked.
// store.ErrUnavailable passes through: who asks cannot know then.
func (s *Service) Identify(ctx context.Context, secret string) (endpoint string, err error) {
	return s.opts.Store.Identify(ctx, digest(secret))
}

// Shared says whether what all agents share (the agents' token, the control plane's
// own user at the message queue) may speak for the endpoint: it may unless the
// endpoint is enrolled, which is ErrTaken, or was revoked.
func (s *Service) Shared(ctx context.Context, endpoint string) error {
	c, err := s.opts.Store.Credential(ctx, endpoint)
	switch {
	case err != nil:
		return err
	case c.RevokedAt != nil:
		return revoked(endpoint, *c.RevokedAt)
	case c.EnrolledAt != nil:
		return fmt.Errorf("the name %s %w: it is enrolled since %s, so only its own secret may speak for it", endpoint, ErrTaken, c.EnrolledAt.Format(time.RFC3339))
	}
	return nil
}

// Own says whether an endpoint may speak that the message queue has already
// identified by its own user: it may unless it was revoked.
func (s *Service) Own(ctx context.Context, endpoint string) error {
	c, err := s.opts.Store.Credential(ctx, endpoint)
	if err == nil && c.RevokedAt != nil {
		err = revoked(endpoint, *c.RevokedAt)
	}
	return err
}

func revoked(endpoint string, at time.Time) error {
	return fmt.Errorf("endpoint %s: %w at %s; enrol it anew", endpoint, ErrRevoked, at.Format(time.RFC3339))
}
