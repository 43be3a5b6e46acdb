package controlplane

import (
	"context"
	"errors"
	"fmt"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/signing"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// signer signs orders; a *signing.Keyring does.
type signer interface{ Sign(o *tasker.Order) error }

// signingHub signs every order that it sends.
type signingHub struct {
	transport.Hub
	keys signer
}

// Send implements transport.Hub. It does not change the caller's orders.
func (s *signingHub) Send(ctx context.Context, orders ...tasker.Order) error {
	signed := make([]tasker.Order, 0, len(orders))
	failed := map[int]error{}
	var indexes []int // of the signed orders in orders
	for i, o := range orders {
		if err := s.keys.Sign(&o); errors.Is(err, signing.ErrMissing) {
			return fmt.Errorf("sign orders: %w", err) // the orders are sent later
		} else if err != nil {
			failed[i] = fmt.Errorf("%w: sign the order: %w", transport.ErrRefused, err)
			continue
		}
		signed, indexes = append(signed, o), append(indexes, i)
	}
	err := s.Hub.Send(ctx, signed...)
	if len(failed) == 0 {
		return err
	}
	if unsent, ok := errors.AsType[*transport.SendError](err); ok {
		for i, reason := range unsent.Failed {
			failed[indexes[i]] = reason
		}
	} else if err != nil {
		return err
	}
	return &transport.SendError{Failed: failed, Of: len(orders)}
}
