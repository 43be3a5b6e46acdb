package wire

import (
	"context"
	"log/slog"
	"time"

	"github.com/MatthiasWiesner/tasker/internal/backoff"
)

// Received is a received message together with its encoding.
type Received[M any] struct {
	Message M
	Encoded []byte
}

// Handler stores a batch of messages, which belong to it until it returns.
type Handler[M any] = func(ctx context.Context, batch []M) error

// Redelivery is the back-off between attempts to deliver a batch.
func Redelivery() backoff.Policy {
	return backoff.Policy{First: 100 * time.Millisecond, Cap: 5 * time.Second}
}

// Deliver passes a batch to handle until handle returns nil. It decodes the messages
// again for each further attempt, because handle may have changed them. Deliver returns
// an error if ctx or the session ends before that; the end of the session does not
// interrupt handle.
func Deliver[M any](ctx, session context.Context, log *slog.Logger, batch []Received[M], decode func([]byte) (M, error), handle Handler[M]) error {
	var messages []M
	for _, r := range batch {
		messages = append(messages, r.Message)
	}
	for attempt := 0; ; attempt++ {
		err := handle(ctx, messages)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		log.Warn("received messages cannot be stored now; holding them", "tries", attempt+1, "error", err)
		if err := Pause(ctx, session, Redelivery(), attempt); err != nil {
			return err
		}
		messages = nil
		for _, r := range batch {
			m, _ := decode(r.Encoded) // decoding has succeeded before
			messages = append(messages, m)
		}
	}
}

// Signal calls handle with an empty batch until it returns nil, as the signal that a
// session has begun.
func Signal[M any](ctx, session context.Context, log *slog.Logger, handle Handler[M]) error {
	return Deliver(ctx, session, log, nil, nil, handle)
}

// Pause waits as the policy says for this attempt (from 0). It returns the cause if ctx or
// the session ends before that.
func Pause(ctx, session context.Context, policy backoff.Policy, attempt int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(session, func() { cancel(context.Cause(session)) })()
	if policy.Sleep(ctx, attempt) != nil {
		return context.Cause(ctx)
	}
	return nil
}
