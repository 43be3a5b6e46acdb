package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/MatthiasWiesner/tasker"
)

// Endpoints returns all endpoints, sorted by name.
func (c *Client) Endpoints(ctx context.Context) ([]tasker.Endpoint, error) {
	all := []tasker.Endpoint{}
	for cursor := ""; ; {
		var page struct {
			Endpoints []tasker.Endpoint `json:"endpoints"`
			Next      string            `json:"next"`
		}
		v := url.Values{"limit": {"1000"}}
		if cursor != "" {
			v.Set("cursor", cursor)
		}
		if err := c.call(ctx, http.MethodGet, path("endpoints")+query(v), nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Endpoints...)
		if page.Next == "" || page.Next == cursor {
			return all, nil
		}
		cursor = page.Next
	}
}

// Endpoint returns one endpoint.
func (c *Client) Endpoint(ctx context.Context, name string) (tasker.Endpoint, error) {
	var e tasker.Endpoint
	return e, c.call(ctx, http.MethodGet, path("endpoints", name), nil, &e)
}

// RevokeEndpoint revokes the secret of an endpoint at once: its agent is disconnected,
// and the name can be enrolled again only with a token that is created afterwards.
func (c *Client) RevokeEndpoint(ctx context.Context, name string) (tasker.Endpoint, error) {
	var e tasker.Endpoint
	return e, c.call(ctx, http.MethodPost, path("endpoints", name, "revoke"), nil, &e)
}

// LabelEndpoint adds or replaces the labels in set, and removes the labels whose names
// are in remove. It does not change the labels in the configuration of the agent.
func (c *Client) LabelEndpoint(ctx context.Context, name string, set map[string]string, remove []string) (tasker.Endpoint, error) {
	var e tasker.Endpoint
	body := map[string]any{}
	if len(set) > 0 {
		body["set"] = set
	}
	if len(remove) > 0 {
		body["remove"] = remove
	}
	return e, c.call(ctx, http.MethodPost, path("endpoints", name, "labels"), body, &e)
}

// CreateEnrolToken creates a token with which up to maxUses servers can enrol within
// ttl, a duration such as "1h". Their endpoints get the labels, which may be nil. Only
// this call returns the secret of the token.
func (c *Client) CreateEnrolToken(ctx context.Context, ttl string, maxUses int, labels map[string]string) (tasker.EnrolToken, error) {
	var t tasker.EnrolToken
	body := map[string]any{"ttl": ttl, "max_uses": maxUses}
	if len(labels) > 0 {
		body["labels"] = labels
	}
	return t, c.call(ctx, http.MethodPost, path("tokens"), body, &t)
}

// EnrolTokens returns the newest enrolment tokens, without their secrets.
func (c *Client) EnrolTokens(ctx context.Context) ([]tasker.EnrolToken, error) {
	var list struct {
		Tokens []tasker.EnrolToken `json:"tokens"`
	}
	err := c.call(ctx, http.MethodGet, path("tokens"), nil, &list)
	return list.Tokens, err
}

// RevokeEnrolToken revokes an enrolment token. Servers that have enrolled with it stay
// enrolled.
func (c *Client) RevokeEnrolToken(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, path("tokens", id), nil, nil)
}
