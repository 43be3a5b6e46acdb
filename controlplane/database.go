package controlplane

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

// openStore opens and migrates the database. While the database is unavailable it tries
// again, and calls waiting, if not nil, at each try.
func openStore(ctx context.Context, log *slog.Logger, waiting func(error), opts store.Options) (*store.Store, error) {
	retry := backoff.Policy{First: 500 * time.Millisecond, Cap: 10 * time.Second}
	for tries := 0; ; tries++ {
		s, err := openOnce(ctx, opts)
		if !errors.Is(err, store.ErrUnavailable) {
			return s, err
		}
		if tries == 0 {
			log.Warn("database is unavailable; trying again", "error", err)
		}
		if waiting != nil {
			waiting(err)
		}
		if err := retry.Sleep(ctx, tries); err != nil {
			return nil, err
		}
	}
}

func openOnce(ctx context.Context, opts store.Options) (*store.Store, error) {
	s, err := store.Open(ctx, opts)
	if err != nil {
		return nil, err
	}
	if err := s.Migrate(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}
