package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/MatthiasWiesner/tasker/internal/transport"
	"github.com/MatthiasWiesner/tasker/internal/transport/wire"
)

// refuseShared rejects the reports that the control plane's user has sent for endpoints for
// which it may not, and returns the others. It retries while that cannot be decided.
func (h *Hub) refuseShared(ctx context.Context, sub *subscription, reports []sentReport) ([]sentReport, error) {
	shared := map[string]bool{}
	for _, r := range reports {
		if r.user != r.Endpoint {
			shared[r.Endpoint] = true
		}
	}
	if h.opts.AuthorizeShared == nil || len(shared) == 0 {
		return reports, nil
	}
	refused, err := h.authorizeShared(ctx, sub.session, slices.Sorted(maps.Keys(shared)))
	if err != nil {
		return nil, err
	}
	accepted := make([]sentReport, 0, len(reports))
	for _, r := range reports {
		reason := refused[r.Endpoint]
		if r.user == r.Endpoint || reason == nil {
			accepted = append(accepted, r)
			continue
		}
		if err := sub.reject(r.delivery); err != nil {
			return nil, err
		}
		h.logRefused(r.delivery, fmt.Errorf("%w: %w", wire.ErrSender, reason))
	}
	return accepted, nil
}

func (h *Hub) authorizeShared(ctx context.Context, s *session, endpoints []string) (map[string]error, error) {
	for attempt := 0; ; attempt++ {
		refused, err := h.opts.AuthorizeShared(ctx, endpoints)
		if !errors.Is(err, transport.ErrUnavailable) {
			return refused, err
		}
		h.opts.Log.Warn("endpoints cannot be authorized now; holding received reports", "tries", attempt+1, "error", err)
		if err := wire.Pause(ctx, s.ctx, wire.Redelivery(), attempt); err != nil {
			return nil, err
		}
	}
}
