package management

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

// user is a user of the broker, as the management API returns it.
type user struct {
	Hash      string `json:"password_hash"`
	Algorithm string `json:"hashing_algorithm"`
	// Tags is a list; before RabbitMQ 3.9 it is a string with commas.
	Tags any `json:"tags"`
}

// find returns the endpoint's user, or nil if there is none. It returns an error if tasker did
// not create the user.
func (a *Accounts) find(ctx context.Context, endpoint string) (*user, error) {
	if err := tasker.ValidateEndpoint(endpoint); err != nil {
		return nil, err
	}
	if slices.Contains(a.reserved, endpoint) {
		return nil, fmt.Errorf("%w: %q is RabbitMQ's administrator or the control plane's own user; the endpoint needs another name", ErrForeignUser, endpoint)
	}
	u := &user{}
	err := a.client.Call(ctx, http.MethodGet, nil, u, "users", endpoint)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("find RabbitMQ user %q: %w", endpoint, err)
	case !u.isAgent():
		return nil, fmt.Errorf("%w: %q lacks the tag %s; give the endpoint another name, or delete the user with: rabbitmqctl delete_user %[2]s", ErrForeignUser, endpoint, agentTag)
	}
	var rights []struct{ Vhost string }
	err = a.client.Call(ctx, http.MethodGet, nil, &rights, "users", endpoint, "permissions")
	switch {
	case errors.Is(err, ErrNotFound): // deleted in the meantime
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("find the permissions of RabbitMQ user %q: %w", endpoint, err)
	}
	for _, r := range rights {
		if r.Vhost != a.vhost {
			return nil, fmt.Errorf("%w: %q is an agent in vhost %q, but this control plane uses vhost %q; give the endpoint another name", ErrForeignUser, endpoint, r.Vhost, a.vhost)
		}
	}
	return u, nil
}

// isAgent reports whether tasker created the user.
func (u *user) isAgent() bool {
	switch tags := u.Tags.(type) {
	case string:
		return tags == agentTag
	case []any:
		return len(tags) == 1 && tags[0] == agentTag
	}
	return false
}

// hasPassword reports whether the user is known to have this password.
func (u *user) hasPassword(password string) bool {
	const salt = 4
	hash, err := base64.StdEncoding.DecodeString(u.Hash)
	if err != nil || u.Algorithm != "rabbit_password_hashing_sha256" || len(hash) != salt+sha256.Size {
		return false
	}
	want := sha256.Sum256(append(slices.Clone(hash[:salt]), password...))
	return subtle.ConstantTimeCompare(want[:], hash[salt:]) == 1
}

// disconnectTimeout is how long the connections of a deleted user may take to close.
const disconnectTimeout = 10 * time.Second

// awaitDisconnect waits until the user has no connection, and closes remaining ones.
func (a *Accounts) awaitDisconnect(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, disconnectTimeout)
	defer cancel()
	for tries := 0; ; tries++ {
		var open []struct{}
		err := a.client.Call(ctx, http.MethodGet, nil, &open, "connections", "username", name)
		if err != nil && !errors.Is(err, ErrNotFound) { // some brokers cannot list them
			return fmt.Errorf("list the connections of RabbitMQ user %q: %w", name, err)
		}
		if len(open) == 0 {
			return nil
		}
		if tries > 2 {
			err := a.client.Call(ctx, http.MethodDelete, nil, nil, "connections", "username", name)
			if err != nil && !errors.Is(err, ErrNotFound) {
				return fmt.Errorf("close the connections of RabbitMQ user %q: %w", name, err)
			}
		}
		wait := backoff.Policy{First: 20 * time.Millisecond, Cap: 500 * time.Millisecond}
		if err := wait.Sleep(ctx, tries); err != nil {
			return fmt.Errorf("close the connections of RabbitMQ user %q: %w", name, err)
		}
	}
}
