package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/handlers"
	"github.com/MatthiasWiesner/tasker/internal/reportrules"
)

// The lengths, in bytes, to which the texts of a report are cut.
const (
	maxError   = 16 << 10
	maxMessage = 1 << 10
)

// outcome is how an assignment ended.
type outcome struct {
	status   tasker.ResponseStatus
	reason   string
	err      string
	result   json.RawMessage
	exitCode *int
}

// reasonRefused is the reason of assignments that the agent ends because the control plane
// does not accept its credential.
const reasonRefused = "the control plane refuses this agent"

// handlerResult is the return value of a handler.
type handlerResult struct {
	err      error
	result   json.RawMessage
	exitCode *int
	// encodeErr is why the result could not be encoded.
	encodeErr error
}

// outcome derives the outcome of an assignment from what its handler returned and from
// the cause for which the handler's context is done; nil if it is not. ended is false if
// the restart contract lets the handler continue at the next start of the agent.
func (r handlerResult) outcome(cause error, timeout time.Duration, restart handlers.Restart) (o outcome, ended bool) {
	o = outcome{result: r.result, exitCode: r.exitCode}
	if r.err != nil && !isContextError(r.err) {
		o.err = r.err.Error()
	}
	var rejected *handlers.RejectError
	switch {
	case r.err == nil:
		o.status = tasker.Succeeded
	case errors.As(r.err, &rejected):
		o.status, o.reason, o.err = tasker.Rejected, limit(rejected.Reason, maxError), ""
	case errors.Is(cause, handlers.ErrCancelled):
		o.status, o.reason = tasker.Cancelled, reasonWhileRunning
	case errors.Is(cause, handlers.ErrTimedOut):
		o.status, o.reason = tasker.TimedOut, "not done within "+timeout.String()
	case errors.Is(cause, handlers.ErrStopping):
		if restart == handlers.RestartRetry || restart == handlers.RestartResume {
			return outcome{}, false
		}
		o.status, o.reason = tasker.Interrupted, "agent was stopped"
	case errors.Is(cause, handlers.ErrUnauthorized):
		o.status, o.reason = tasker.Interrupted, reasonRefused
	default:
		o.status, o.err = tasker.Failed, r.err.Error()
	}
	if r.encodeErr != nil {
		if o.status == tasker.Succeeded {
			o.status = tasker.Failed
		}
		o.err = strings.TrimPrefix(o.err+"; "+r.encodeErr.Error(), "; ")
	}
	o.err = limit(o.err, maxError)
	return o, true
}

// isContextError reports whether an error is just the cause of a done context, without
// details from the handler.
func isContextError(err error) bool {
	for _, cause := range []error{
		context.Canceled, context.DeadlineExceeded, handlers.ErrCancelled, handlers.ErrTimedOut, handlers.ErrStopping,
		handlers.ErrUnauthorized,
	} {
		if errors.Is(err, cause) && err.Error() == cause.Error() {
			return true
		}
	}
	return false
}

// encode encodes a handler's result as JSON; nil if the result is nil or null.
func encode(value any) (json.RawMessage, error) {
	if value == nil {
		return nil, nil
	}
	data, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("the handler's result is not kept: it cannot be encoded as JSON: %w", err)
	}
	if err := reportrules.CheckResult(data); err != nil {
		return nil, fmt.Errorf("the handler's result is not kept: it %w", err)
	}
	if string(data) == "null" {
		return nil, nil
	}
	return data, nil
}

// limit returns valid UTF-8 of at most n bytes. An ellipsis ends a string that was cut.
func limit(s string, n int) string {
	if len(s) > n {
		s = s[:n-len("…")] + "…"
	}
	return strings.ToValidUTF8(s, "")
}
