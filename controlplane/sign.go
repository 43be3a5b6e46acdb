package controlplane

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// signing is a hub that signs every order it sends.
type signing struct {
	transport.Hub
	key ed25519.PrivateKey
}

// Send implements transport.Hub. The caller's orders stay as they are.
func (s *signing) Send(ctx context.Context, orders ...tasker.Order) error {
	signed := make([]tasker.Order, 0, len(orders))
	failed := map[int]error{}
	var from []int // the index in orders of each that is signed
	for i, o := range orders {
		if err := o.Sign(s.key); err != nil {
			failed[i] = fmt.Errorf("%w: sign the order: %w", transport.ErrRefused, err)
			continue
		}
		signed, from = append(signed, o), append(from, i)
	}
	err := s.Hub.Send(ctx, signed...)
	if len(failed) == 0 {
		return err
	}
	if unsent, ok := errors.AsType[*transport.SendError](err); ok {
		for i, reason := range unsent.Failed {
			failed[from[i]] = reason
		}
	} else if err != nil {
		return err
	}
	return &transport.SendError{Failed: failed, Of: len(orders)}
}
