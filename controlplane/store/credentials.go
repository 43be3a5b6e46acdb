package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

// Credential is how an endpoint stands: enrolled, revoked, or (both nil) neither.
type Credential struct {
	EnrolledAt, RevokedAt *time.Time
}

// mark returns the endpoint with how it stands. What it said before it was shut
// out may have been stored since; it is not connected all the same.
func (c Credential) mark(e tasker.Endpoint) tasker.Endpoint {
	e.EnrolledAt, e.RevokedAt = c.EnrolledAt, c.RevokedAt
	e.Connected = e.Connected && c.RevokedAt == nil
	return e
}

// credentials reads those of endpoints; who is neither enrolled nor revoked is
// left out.
// lock is empty or forUpdate.
func (c *conn) credentials(ctx context.Context, names []string, lock string) (map[string]Credential, error) {
	if len(names) == 0 {
		return map[string]Credential{}, nil
	}
	return c.credentialsWhere(ctx, "endpoint IN ("+marks(len(names))+")"+lock, anys(names))
}

// credentialsFrom reads those from one endpoint to another, by name.
func (c *conn) credentialsFrom(ctx context.Context, first, last string) (map[string]Credential, error) {
	return c.credentialsWhere(ctx, "endpoint >= ? AND endpoint <= ?", []any{first, last})
}

func (c *conn) credentialsWhere(ctx context.Context, where string, args []any) (map[string]Credential, error) {
	known := map[string]Credential{}
	err := c.rows(ctx, "SELECT endpoint, enrolled_at, revoked_at FROM credentials WHERE "+where, args, func(r *sql.Rows) error {
		var name string
		var enrolled, revoked micros
		err := r.Scan(&name, &enrolled, &revoked)
		known[name] = Credential{EnrolledAt: enrolled.at(), RevokedAt: revoked.at()}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	return known, nil
}

// lockCredential reads and locks the credential of an endpoint. One that is not
// there is not locked (it would lock others' too): it is the key that keeps two
// from being made.
func (t *tx) lockCredential(ctx context.Context, endpoint string) (c Credential, ok bool, err error) {
	known, err := t.credentials(ctx, []string{endpoint}, "")
	if err == nil && len(known) > 0 {
		known, err = t.credentials(ctx, []string{endpoint}, t.forUpdate)
	}
	c, ok = known[endpoint]
	return c, ok, err
}

// Credential says how an endpoint stands.
func (s *Store) Credential(ctx context.Context, endpoint string) (Credential, error) {
	c, err := s.standing.get(endpoint, func() (Credential, error) {
		known, err := s.direct().credentials(ctx, []string{endpoint}, "")
		return known[endpoint], err
	})
	return c, s.fail("read a credential", err)
}

// Identify returns the endpoint whose secret has the digest, or ErrNotFound if
// there is none, or it was revoked.
func (s *Store) Identify(ctx context.Context, digest Digest) (string, error) {
	endpoint, err := s.owners.get(digest, func() (endpoint string, err error) {
		var revoked micros
		err = s.direct().row(ctx, "SELECT endpoint, revoked_at FROM credentials WHERE hash = ?", []any{digest[:]}, &endpoint, &revoked)
		if err == nil && revoked != 0 {
			endpoint, err = "", ErrNotFound
		}
		return endpoint, err
	})
	return endpoint, s.fail("look for a credential", err)
}

// forgetCredentials is for whoever may have changed one, before it is said that it is
// done.
func (s *Store) forgetCredentials() {
	s.standing.forget()
	s.owners.forget()
}

// Enrol gives the endpoint the secret with the digest, for one use of the token;
// repeated says that it had it already, which is no use. ErrToken, ErrTaken and
// ErrRevoked say for people why not.
func (s *Store) Enrol(ctx context.Context, token Digest, endpoint string, secret Digest) (repeated bool, err error) {
	defer s.forgetCredentials()
	err = s.updateUnique(ctx, "enrol an endpoint", func(tx *tx) error {
		repeated = false
		with, err := tx.lockToken(ctx, token)
		if err != nil {
			return err
		}
		var owner string
		err = tx.row(ctx, "SELECT endpoint FROM credentials WHERE hash = ?", []any{secret[:]}, &owner)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		had, ok, err := tx.lockCredential(ctx, endpoint)
		if err != nil {
			return err
		}
		switch {
		case owner == endpoint && had.RevokedAt != nil:
			return fmt.Errorf("endpoint %s: %w at %s", endpoint, ErrRevoked, had.RevokedAt.Format(time.RFC3339))
		case owner == endpoint:
			repeated = true
			return nil
		case owner != "":
			return fmt.Errorf("the secret %w by another endpoint; choose one at random", ErrTaken)
		case ok && had.RevokedAt == nil:
			return fmt.Errorf("endpoint %s %w: it is enrolled since %s", endpoint, ErrTaken, had.EnrolledAt.Format(time.RFC3339))
		case !ok:
			err = tx.free(ctx, endpoint)
		}
		if err == nil {
			err = tx.useToken(ctx, with)
		}
		if err != nil {
			return err
		}
		if ok {
			return tx.exec(ctx, "UPDATE credentials SET hash = ?, token_id = ?, enrolled_at = ?, revoked_at = NULL, revoked_by = '' WHERE endpoint = ?",
				secret[:], with.ID, tx.now, endpoint)
		}
		return tx.insertRows(ctx, "credentials", words("endpoint, hash, token_id, enrolled_at, revoked_by"), "",
			[][]any{{endpoint, secret[:], with.ID, tx.now, ""}})
	})
	return repeated, err
}

// free returns ErrTaken if an agent that is not enrolled is connected under this
// name.
func (t *tx) free(ctx context.Context, endpoint string) error {
	known, err := t.endpoints(ctx, []string{endpoint}, "")
	if err != nil {
		return err
	}
	if e := known[endpoint]; e != nil && e.online(t.now) {
		return fmt.Errorf("endpoint %s %w: an agent that is not enrolled is connected under this name", endpoint, ErrTaken)
	}
	return nil
}

// RevokeEndpoint shuts an endpoint out: whatever its secret, it is no longer
// identified, until it is enrolled anew. What it was at ends as interrupted
// (cancelled, where that was asked for). It returns the finished tasks.
func (s *Store) RevokeEndpoint(ctx context.Context, endpoint, by string) ([]tasker.Task, error) {
	defer s.forgetCredentials()
	var finished []tasker.Task
	err := s.updateUnique(ctx, "revoke an endpoint", func(tx *tx) error {
		known, err := tx.endpoints(ctx, []string{endpoint}, tx.forUpdate)
		if err != nil {
			return err
		}
		had, ok, err := tx.lockCredential(ctx, endpoint)
		if err != nil {
			return err
		}
		switch {
		case !ok && known[endpoint] == nil:
			return ErrNotFound
		case !ok:
			err = tx.insertRows(ctx, "credentials", words("endpoint, token_id, revoked_at, revoked_by"), "",
				[][]any{{endpoint, "", tx.now, cut(by, maxName)}})
		case had.RevokedAt == nil:
			err = tx.exec(ctx, "UPDATE credentials SET revoked_at = ?, revoked_by = ? WHERE endpoint = ?", tx.now, cut(by, maxName), endpoint)
		}
		if err == nil && known[endpoint] != nil {
			err = tx.exec(ctx, "UPDATE endpoints SET connected = 0 WHERE name = ?", endpoint)
		}
		if err != nil {
			return err
		}
		finished, err = tx.interrupt(ctx, endpoint, "revoked")
		return err
	})
	return finished, err
}

// interrupt ends what an endpoint has received and not ended.
func (t *tx) interrupt(ctx context.Context, endpoint, reason string) ([]tasker.Task, error) {
	keys, err := t.keys(ctx, "SELECT task_id, endpoint FROM responses WHERE endpoint = ? AND status IN ('received','running')", endpoint)
	if err != nil || len(keys) == 0 {
		return nil, err
	}
	u, err := t.lock(ctx, tasksOf(keys))
	if err != nil {
		return nil, err
	}
	if err := u.load(ctx, keys); err != nil {
		return nil, err
	}
	for _, r := range u.rows {
		if r.Status == tasker.Received || r.Status == tasker.Running {
			u.end(r, u.lostStatus(r), reason, true)
		}
	}
	return u.flush(ctx)
}

// lostStatus is how a response ends whose agent will not be heard of again.
func (u *unit) lostStatus(r *responseRow) tasker.ResponseStatus {
	if u.tasks[r.TaskID].CancelRequestedAt != nil {
		return tasker.Cancelled
	}
	return tasker.Interrupted
}

// SigningKey returns the seed of the key that orders are signed with; if there is
// none yet, that is the one offered. Several control planes get the same.
func (s *Store) SigningKey(ctx context.Context, offered [32]byte) ([]byte, error) {
	return s.key(ctx, "orders", offered)
}

// key returns a key of this name; if there is none yet, that is the one offered.
func (s *Store) key(ctx context.Context, name string, offered [32]byte) ([]byte, error) {
	var seed []byte
	const query = "SELECT seed FROM signing_keys WHERE name = ?"
	args := []any{name}
	err := s.direct().row(ctx, query, args, &seed)
	if errors.Is(err, ErrNotFound) {
		err = s.update(ctx, "make a signing key", func(tx *tx) error {
			columns := words("name, seed, created_at")
			if err := tx.insertRows(ctx, "signing_keys", columns, tx.onConflict(columns[:1], nil), [][]any{{args[0], offered[:], tx.now}}); err != nil {
				return err
			}
			return tx.row(ctx, query+tx.forUpdate, args, &seed)
		})
	}
	return seed, s.fail("read a signing key", err)
}
