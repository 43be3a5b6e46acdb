package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// Credential is the state of an endpoint's secret; both times are nil without one.
type Credential struct {
	EnrolledAt, RevokedAt *time.Time
}

// applyTo returns the endpoint with its credential. A revoked endpoint is not connected,
// even if a report that it sent before was stored later.
func (c Credential) applyTo(e tasker.Endpoint) tasker.Endpoint {
	e.EnrolledAt, e.RevokedAt = c.EnrolledAt, c.RevokedAt
	e.Connected = e.Connected && c.RevokedAt == nil
	return e
}

// readCredentials reads the credentials of endpoints; endpoints without one are left
// out. lock is empty or Syntax.ForUpdate.
func readCredentials(ctx context.Context, c *sqldb.Conn, endpoints []string, lock string) (map[string]Credential, error) {
	if len(endpoints) == 0 {
		return map[string]Credential{}, nil
	}
	return queryCredentials(ctx, c, "endpoint IN ("+sqldb.Placeholders(len(endpoints))+")"+lock, sqldb.Args(endpoints)...)
}

func queryCredentials(ctx context.Context, c *sqldb.Conn, where string, args ...any) (map[string]Credential, error) {
	credentials := map[string]Credential{}
	err := c.Query(ctx, "SELECT endpoint, enrolled_at, revoked_at FROM credentials WHERE "+where, args, func(r *sql.Rows) error {
		var name string
		var enrolled, revoked sqldb.Micros
		err := r.Scan(&name, &enrolled, &revoked)
		credentials[name] = Credential{EnrolledAt: enrolled.TimeOrNil(), RevokedAt: revoked.TimeOrNil()}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	return credentials, nil
}

// lockCredential reads and locks the credential of an endpoint. A missing row is not
// locked, because that would lock others too: the primary key keeps two transactions
// from inserting it.
func lockCredential(ctx context.Context, t *tx, endpoint string) (c Credential, ok bool, err error) {
	credentials, err := readCredentials(ctx, &t.Conn, []string{endpoint}, "")
	if err == nil && len(credentials) > 0 {
		credentials, err = readCredentials(ctx, &t.Conn, []string{endpoint}, t.ForUpdate)
	}
	c, ok = credentials[endpoint]
	return c, ok, err
}
