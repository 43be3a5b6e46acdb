package client

import (
	"context"
	"net/http"

	"github.com/MatthiasWiesner/tasker"
)

// CreateEnrolToken makes a token with which maxUses servers can enrol within ttl,
// like 1h.
func (c *Client) CreateEnrolToken(ctx context.Context, ttl string, maxUses int) (tasker.EnrolToken, error) {
	var t tasker.EnrolToken
	body := map[string]any{"ttl": ttl, "max_uses": maxUses}
	return t, c.call(ctx, http.MethodPost, path("tokens"), body, &t)
}

// EnrolTokens returns the newest tokens, without their secrets.
func (c *Client) EnrolTokens(ctx context.Context) ([]tasker.EnrolToken, error) {
	var list struct {
		Tokens []tasker.EnrolToken `json:"tokens"`
	}
	err := c.call(ctx, http.MethodGet, path("tokens"), nil, &list)
	return list.Tokens, err
}

// RevokeEnrolToken makes a token useless.
func (c *Client) RevokeEnrolToken(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, path("tokens", id), nil, nil)
}

// RevokeEndpoint shuts an endpoint out.
func (c *Client) RevokeEndpoint(ctx context.Context, name string) (tasker.Endpoint, error) {
	var e tasker.Endpoint
	return e, c.call(ctx, http.MethodPost, path("endpoints", name, "revoke"), nil, &e)
}
