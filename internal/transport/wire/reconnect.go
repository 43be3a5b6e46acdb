package wire

import (
	"context"
	"errors"
	"time"

	"github.com/MatthiasWiesner/tasker/internal/backoff"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// stableAfter is how long a session must last before the back-off starts again.
const stableAfter = 10 * time.Second

// Reconnection is the back-off between sessions.
func Reconnection() backoff.Policy {
	return backoff.Policy{First: 500 * time.Millisecond, Cap: 10 * time.Second}
}

// unauthorized is the back-off of an agent that is not authorized. A person has to
// correct that, and thousands of failed logins would fill the logs of the other side.
func unauthorized() backoff.Policy {
	return backoff.Policy{First: 4 * time.Second, Cap: time.Minute}
}

// Reconnect calls session until ctx is done, with back-off between the calls. A session
// returns the reason why it ended or could not begin, which Reconnect passes to ended
// before it waits. With slow set, the waits after transport.ErrUnauthorized are longer.
func Reconnect(ctx context.Context, slow bool, session func(context.Context) error, ended func(error)) {
	for attempt := 0; ; attempt++ {
		began := time.Now()
		err := session(ctx)
		if ctx.Err() != nil {
			return
		}
		ended(err)
		if time.Since(began) > stableAfter {
			attempt = 0
		}
		policy := Reconnection()
		if slow && errors.Is(err, transport.ErrUnauthorized) {
			policy = unauthorized()
		}
		if policy.Sleep(ctx, attempt) != nil {
			return
		}
	}
}
