package rabbitmq

import (
	"context"
	"errors"

	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// sendAll publishes a message for each item and waits until the broker has confirmed them.
// newMessage returns the message of an item, or why it cannot be sent. onReturn returns the
// error of an item whose message the broker has returned.
func sendAll[M any](ctx context.Context, c *connection, items []M, newMessage func(M) (message, error), onReturn func(M) error) error {
	failed := map[int]error{}
	msgs, index := make([]message, 0, len(items)), make([]int, 0, len(items))
	for i, item := range items {
		m, err := newMessage(item)
		if err != nil {
			failed[i] = err
			continue
		}
		msgs, index = append(msgs, m), append(index, i)
	}
	if len(msgs) > 0 {
		s, err := c.sendSession(ctx)
		if err != nil {
			return err
		}
		for j, err := range s.publisher.publish(ctx, msgs) {
			i := index[j]
			if errors.Is(err, errReturned) {
				err = onReturn(items[i])
			}
			if err != nil {
				failed[i] = err
			}
		}
	}
	if len(failed) > 0 {
		return &transport.SendError{Failed: failed, Of: len(items)}
	}
	return nil
}
