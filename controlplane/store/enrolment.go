package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// Digest is the SHA-256 of a secret; the secret itself is not stored.
type Digest [32]byte

// Enrolment stores enrolment tokens and the credentials of endpoints.
type Enrolment struct {
	db *database
	// On SQLite this process is the only one that changes credentials, so it caches
	// them. On MySQL other control planes enrol and revoke too.
	credentials *cache[string, Credential]
	endpoints   *cache[Digest, string]
}

func newEnrolment(db *database) *Enrolment {
	e := &Enrolment{db: db}
	if db.Dialect() == "sqlite" {
		e.credentials, e.endpoints = newCache[string, Credential](), newCache[Digest, string]()
	}
	return e
}

// clearCaches must be called after a credential may have changed, before the caller
// learns of the change.
func (e *Enrolment) clearCaches() {
	e.credentials.clear()
	e.endpoints.clear()
}

// Credential reads the credential of an endpoint.
func (e *Enrolment) Credential(ctx context.Context, endpoint string) (Credential, error) {
	c, err := e.credentials.get(endpoint, func() (Credential, error) {
		credentials, err := readCredentials(ctx, e.db.Reader(), []string{endpoint}, "")
		return credentials[endpoint], err
	})
	return c, e.db.Wrap("read a credential", err)
}

// Credentials reads the credentials of several endpoints; endpoints without one may be
// left out.
func (e *Enrolment) Credentials(ctx context.Context, endpoints []string) (map[string]Credential, error) {
	if e.credentials == nil {
		credentials, err := readCredentials(ctx, e.db.Reader(), endpoints, "")
		return credentials, e.db.Wrap("read credentials", err)
	}
	credentials := make(map[string]Credential, len(endpoints))
	for _, name := range endpoints {
		c, err := e.Credential(ctx, name)
		if err != nil {
			return nil, err
		}
		credentials[name] = c
	}
	return credentials, nil
}

// Identify returns the endpoint whose secret has the digest. It returns ErrNotFound
// if there is none, or if the secret was revoked.
func (e *Enrolment) Identify(ctx context.Context, digest Digest) (string, error) {
	endpoint, err := e.endpoints.get(digest, func() (endpoint string, err error) {
		var revoked sqldb.Micros
		err = e.db.Reader().QueryRow(ctx, "SELECT endpoint, revoked_at FROM credentials WHERE hash = ?", []any{digest[:]}, &endpoint, &revoked)
		if err == nil && revoked != 0 {
			endpoint, err = "", ErrNotFound
		}
		return endpoint, err
	})
	return endpoint, e.db.Wrap("read a credential", err)
}

// Enrol stores the digest of the endpoint's secret, for one use of the token. repeated
// reports that it was stored before; then the token is not used. The labels of the token
// become the endpoint's, in place of all labels that it had. A revoked endpoint needs
// another secret, and a token that was created after the revocation. ErrToken, ErrTaken
// and ErrRevoked state the reason of a refusal.
func (e *Enrolment) Enrol(ctx context.Context, token Digest, endpoint string, secret Digest) (repeated bool, err error) {
	defer e.clearCaches()
	err = e.db.updateUnique(ctx, "enrol an endpoint", func(tx *tx) error {
		repeated = false
		locked, err := lockToken(ctx, tx, token)
		if err != nil {
			return err
		}
		stored, exists, err := lockCredential(ctx, tx, endpoint)
		if err != nil {
			return err
		}
		owner, err := findOwner(ctx, tx, secret)
		if err != nil {
			return err
		}
		if owner == endpoint && stored.RevokedAt == nil {
			repeated = true
			return nil
		}
		switch {
		case owner != "":
			err = fmt.Errorf("the secret %w: another endpoint uses this secret; generate a new random one", ErrTaken)
			if owner == endpoint {
				err = fmt.Errorf("endpoint %s: %w at %s", endpoint, ErrRevoked, stored.RevokedAt.Format(time.RFC3339))
			}
		case exists:
			err = checkFree(endpoint, stored, locked)
		default:
			err = checkNotConnected(ctx, tx, endpoint)
		}
		if err == nil {
			err = useToken(ctx, tx, locked)
		}
		if err != nil {
			return err
		}
		return storeSecret(ctx, tx, locked, endpoint, secret, exists)
	})
	return repeated, err
}

// findOwner returns the endpoint that has the secret, or an empty string. ErrRevoked means
// that the secret was revoked and its endpoint has another one.
func findOwner(ctx context.Context, t *tx, secret Digest) (endpoint string, err error) {
	err = t.QueryRow(ctx, "SELECT endpoint FROM credentials WHERE hash = ?", []any{secret[:]}, &endpoint)
	if !errors.Is(err, ErrNotFound) {
		return endpoint, err
	}
	var revoked sqldb.Micros
	err = t.QueryRow(ctx, "SELECT endpoint, revoked_at FROM revoked_secrets WHERE hash = ?", []any{secret[:]}, &endpoint, &revoked)
	switch {
	case errors.Is(err, ErrNotFound):
		return "", nil
	case err != nil:
		return "", err
	}
	return "", fmt.Errorf("endpoint %s: %w at %s; generate a new random one", endpoint, ErrRevoked, revoked.RFC3339())
}

// checkFree returns an error if the name of the credential cannot be enrolled with the
// token: it is in use, or was revoked after the token had been created.
func checkFree(endpoint string, c Credential, token tasker.EnrolToken) error {
	switch {
	case c.RevokedAt == nil:
		return fmt.Errorf("endpoint %s %w: it has been enrolled since %s", endpoint, ErrTaken, c.EnrolledAt.Format(time.RFC3339))
	case !token.CreatedAt.After(*c.RevokedAt):
		return fmt.Errorf("endpoint %s: %w at %s, after this token had been created; to readmit the server, create a new token: tasker enrol-token create",
			endpoint, ErrRevoked, c.RevokedAt.Format(time.RFC3339))
	}
	return nil
}

// storeSecret stores the secret and the labels of an endpoint that enrols. exists reports
// whether the endpoint has a credential, which is revoked.
func storeSecret(ctx context.Context, t *tx, token tasker.EnrolToken, endpoint string, secret Digest, exists bool) error {
	// Labels of the endpoint's former agent must not pass to this one.
	if err := bindLabels(ctx, t, endpoint, token.Labels); err != nil {
		return err
	}
	if !exists {
		return t.Insert(ctx, "credentials", []string{"endpoint", "hash", "token_id", "enrolled_at", "revoked_by"},
			[][]any{{endpoint, secret[:], token.ID, t.Now, ""}})
	}
	err := t.Exec(ctx, "INSERT INTO revoked_secrets (hash, endpoint, revoked_at) SELECT hash, endpoint, revoked_at FROM credentials WHERE endpoint = ? AND hash IS NOT NULL", endpoint)
	if err != nil {
		return err
	}
	return t.Exec(ctx, "UPDATE credentials SET hash = ?, token_id = ?, enrolled_at = ?, revoked_at = NULL, revoked_by = '' WHERE endpoint = ?",
		secret[:], token.ID, t.Now, endpoint)
}

// checkNotConnected returns ErrTaken if an agent that is not enrolled is connected
// under this name.
func checkNotConnected(ctx context.Context, t *tx, endpoint string) error {
	endpoints, err := readEndpoints(ctx, &t.Conn, []string{endpoint}, "")
	if err != nil {
		return err
	}
	if row := endpoints[endpoint]; row != nil && row.isConnected(t.Now) {
		return fmt.Errorf("endpoint %s %w: an agent that is not enrolled is connected under this name", endpoint, ErrTaken)
	}
	return nil
}

// RevokeEndpoint revokes an endpoint's secret, so that Identify no longer finds the
// endpoint until it is enrolled again. Responses that its agent has not ended become
// interrupted. RevokeEndpoint returns the tasks that finished.
func (e *Enrolment) RevokeEndpoint(ctx context.Context, endpoint, by string) ([]tasker.Task, error) {
	defer e.clearCaches()
	var finished []tasker.Task
	err := e.db.updateUnique(ctx, "revoke an endpoint", func(tx *tx) error {
		endpoints, err := readEndpoints(ctx, &tx.Conn, []string{endpoint}, tx.ForUpdate)
		if err != nil {
			return err
		}
		stored, exists, err := lockCredential(ctx, tx, endpoint)
		if err != nil {
			return err
		}
		by := truncate(by, maxName)
		switch {
		case !exists && endpoints[endpoint] == nil:
			return ErrNotFound
		case !exists:
			err = tx.Insert(ctx, "credentials", []string{"endpoint", "token_id", "revoked_at", "revoked_by"}, [][]any{{endpoint, "", tx.Now, by}})
		case stored.RevokedAt == nil:
			err = tx.Exec(ctx, "UPDATE credentials SET revoked_at = ?, revoked_by = ? WHERE endpoint = ?", tx.Now, by, endpoint)
		}
		if err == nil && endpoints[endpoint] != nil {
			err = tx.Exec(ctx, "UPDATE endpoints SET connected = 0 WHERE name = ?", endpoint)
		}
		if err != nil {
			return err
		}
		finished, err = interrupt(ctx, tx, endpoint, "revoked")
		return err
	})
	return finished, err
}

// interrupt ends the responses that the endpoint's agent has received and not ended.
func interrupt(ctx context.Context, t *tx, endpoint, reason string) ([]tasker.Task, error) {
	keys, err := queryKeys(ctx, &t.Conn, "SELECT task_id, endpoint FROM responses WHERE endpoint = ? AND "+statusIn(isWithAgent), endpoint)
	if err != nil || len(keys) == 0 {
		return nil, err
	}
	cs, err := lockResponses(ctx, t, keys)
	if err != nil {
		return nil, err
	}
	for _, r := range cs.responses {
		if isWithAgent(r.Status) {
			cs.endLost(r, reason)
		}
	}
	return cs.write(ctx)
}
