package dispatch

import (
	"errors"
	"time"

	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/internal/backoff"
	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// endpointRetry spaces the tries of an order whose endpoint does not accept it.
func endpointRetry() backoff.Policy {
	return backoff.Policy{First: 500 * time.Millisecond, Cap: 30 * time.Second}
}

// outageRetry spaces the tries while the control plane has no connection to its broker.
// Its cap is well below the time for which package deadline excuses an outage, so that
// waiting orders are sent in time after an outage.
func outageRetry() backoff.Policy {
	return backoff.Policy{First: 500 * time.Millisecond, Cap: 5 * time.Second}
}

// splitBySent separates the claims whose orders were sent from the others, by the error
// of Send.
func (d *Dispatcher) splitBySent(claims []store.Claim, err error) (sent []store.Claim, unsent []store.Unsent) {
	if err == nil {
		return claims, nil
	}
	var partial *transport.SendError
	isPartial := errors.As(err, &partial)
	for i, c := range claims {
		cause := err
		if isPartial {
			if cause = partial.Failed[i]; cause == nil {
				sent = append(sent, c)
				continue
			}
		}
		d.opts.Log.Debug("order not sent", "task", c.TaskID, "type", c.Order.Type, "endpoint", c.Order.Endpoint,
			"tries", c.Tries+1, "error", cause)
		reason, retry := explain(cause)
		unsent = append(unsent, store.Unsent{Claim: c, Reason: reason, After: retry.Wait(c.Tries), MaybeSent: maybeSent(cause)})
	}
	return sent, unsent
}

// explain returns why an order was not sent, for people, and how its tries are spaced.
func explain(err error) (string, backoff.Policy) {
	switch {
	case errors.Is(err, transport.ErrOffline):
		return "offline", endpointRetry()
	case errors.Is(err, transport.ErrUnroutable):
		return "unroutable: no agent of this name is subscribed to the task type; it has not connected yet, or has neither handler nor script for it", endpointRetry()
	}
	return err.Error(), outageRetry()
}

// maybeSent reports whether an order may have arrived although Send returned the error.
func maybeSent(err error) bool {
	return !errors.Is(err, transport.ErrOffline) && !errors.Is(err, transport.ErrUnroutable) && !errors.Is(err, transport.ErrRefused)
}

// release makes claims due at once, for any control plane.
func release(claims []store.Claim) []store.Unsent {
	unsent := make([]store.Unsent, len(claims))
	for i, c := range claims {
		unsent[i] = store.Unsent{Claim: c}
	}
	return unsent
}
