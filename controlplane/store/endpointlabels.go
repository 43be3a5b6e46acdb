package store

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store/sqldb"
)

// ErrLabels means that the labels would not be valid; see tasker.ValidateLabels.
var ErrLabels = errors.New("invalid labels")

// labelsRow is a row of endpoint_labels: the labels that an enrolment token or an admin
// has bound to an endpoint.
type labelsRow struct {
	endpoint string
	labels   map[string]string
}

// labelsColumns are the columns of endpoint_labels; the key comes first.
//
//nolint:gochecknoglobals // constant
var labelsColumns = sqldb.NewColumns(
	sqldb.Text("endpoint", func(l *labelsRow) *string { return &l.endpoint }),
	sqldb.JSON("labels", func(l *labelsRow) *map[string]string { return &l.labels }),
)

// EndpointLabels stores the labels that are bound to endpoints. A selector of an
// enrolled endpoint matches only these, so an agent cannot choose which tasks it gets.
type EndpointLabels struct{ db *database }

// LabelEndpoint adds or replaces the labels in set, and removes the labels whose names
// are in remove. Repeating it changes nothing. ErrNotFound means that the endpoint is
// not known, ErrLabels that labels in set are not valid, or that there would be too many.
func (l *EndpointLabels) LabelEndpoint(ctx context.Context, endpoint string, set map[string]string, remove []string) error {
	if err := tasker.ValidateLabels(set); err != nil {
		return fmt.Errorf("%w: %w", ErrLabels, err)
	}
	return l.db.updateUnique(ctx, "label an endpoint", func(tx *tx) error {
		if err := checkExists(ctx, &tx.Conn, endpoint); err != nil {
			return err
		}
		labels, err := lockLabels(ctx, tx, endpoint)
		if err != nil {
			return err
		}
		for _, name := range remove {
			delete(labels, name)
		}
		maps.Copy(labels, set)
		if len(labels) > tasker.MaxLabels {
			return fmt.Errorf("%w: the endpoint would have %d; at most %d are allowed", ErrLabels, len(labels), tasker.MaxLabels)
		}
		return bindLabels(ctx, tx, endpoint, labels)
	})
}

// checkExists returns ErrNotFound unless the endpoint has reported, enrolled or been
// revoked.
func checkExists(ctx context.Context, c *sqldb.Conn, endpoint string) error {
	endpoints, err := readEndpoints(ctx, c, []string{endpoint}, "")
	if err != nil || endpoints[endpoint] != nil {
		return err
	}
	credentials, err := readCredentials(ctx, c, []string{endpoint}, "")
	if _, ok := credentials[endpoint]; err == nil && !ok {
		return ErrNotFound
	}
	return err
}

// lockLabels reads and locks the bound labels of an endpoint. A missing row is not
// locked, as in lockCredential.
func lockLabels(ctx context.Context, t *tx, endpoint string) (map[string]string, error) {
	bound, err := readLabels(ctx, &t.Conn, "endpoint = ?", endpoint)
	if err == nil && len(bound) > 0 {
		bound, err = readLabels(ctx, &t.Conn, "endpoint = ?"+t.ForUpdate, endpoint)
	}
	labels := maps.Clone(bound[endpoint])
	if labels == nil {
		labels = map[string]string{}
	}
	return labels, err
}

// bindLabels makes labels the bound labels of an endpoint.
func bindLabels(ctx context.Context, t *tx, endpoint string, labels map[string]string) error {
	return labelsColumns.Upsert(ctx, &t.Conn, "endpoint_labels", 1, &labelsRow{endpoint, labels})
}

// readLabels reads bound labels by endpoint.
func readLabels(ctx context.Context, c *sqldb.Conn, where string, args ...any) (map[string]map[string]string, error) {
	rows, err := labelsColumns.Select(ctx, c, "FROM endpoint_labels WHERE "+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read the labels of endpoints: %w", err)
	}
	labels := make(map[string]map[string]string, len(rows))
	for _, row := range rows {
		labels[row.endpoint] = row.labels
	}
	return labels, nil
}
