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
)

// The longest texts of a report, in bytes.
const (
	maxError   = 16 << 10
	maxMessage = 1 << 10
)

// outcome is how an assignment has ended.
type outcome struct {
	status tasker.ResponseStatus
	reason string
	err    string
	result json.RawMessage
	exit   *int
}

// done is what came of calling a handler.
type done struct {
	err         error
	result      json.RawMessage
	unencodable error
	exit        *int
}

// judge derives the outcome from what the handler returned and from the cause
// for which its context was done, if it was. keep says that the assignment has
// not ended: the handler's restart contract lets it go on at the next start.
func (d done) judge(cause error, timeout time.Duration, restart handlers.Restart) (o outcome, keep bool) {
	o = outcome{result: d.result, exit: d.exit}
	if d.err != nil && !onlyContext(d.err) {
		o.err = d.err.Error()
	}
	var rejected *handlers.RejectError
	switch {
	case d.err == nil:
		o.status = tasker.Succeeded
	case errors.As(d.err, &rejected):
		o.status, o.reason, o.err = tasker.Rejected, limit(rejected.Reason, maxError), ""
	case errors.Is(cause, handlers.ErrCancelled):
		o.status, o.reason = tasker.Cancelled, "cancelled while it was running"
	case errors.Is(cause, handlers.ErrTimedOut):
		o.status, o.reason = tasker.TimedOut, "not done within "+timeout.String()
	case errors.Is(cause, handlers.ErrStopping):
		if restart == handlers.RestartRetry || restart == handlers.RestartResume {
			return outcome{}, true
		}
		o.status, o.reason = tasker.Interrupted, "agent was stopped"
	default:
		o.status, o.err = tasker.Failed, d.err.Error()
	}
	if d.unencodable != nil {
		if o.status == tasker.Succeeded {
			o.status = tasker.Failed
		}
		o.err = strings.TrimPrefix(o.err+"; "+d.unencodable.Error(), "; ")
	}
	o.err = limit(o.err, maxError)
	return o, false
}

// onlyContext says whether an error tells no more than that the context was
// done. What a handler adds to it is worth showing.
func onlyContext(err error) bool {
	for _, plain := range []error{
		context.Canceled, context.DeadlineExceeded, handlers.ErrCancelled, handlers.ErrTimedOut, handlers.ErrStopping,
	} {
		if errors.Is(err, plain) && err.Error() == plain.Error() {
			return true
		}
	}
	return false
}

// encode makes JSON of a handler's result; nil and null are none at all.
func encode(value any) (json.RawMessage, error) {
	if value == nil {
		return nil, nil
	}
	data, err := json.Marshal(value)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the handler's result is not kept: it cannot be encoded as JSON: %w", err)
	case len(data) > tasker.MaxResult:
		return nil, fmt.Errorf("the handler's result is not kept: it has %d bytes as JSON, at most %d are allowed", len(data), tasker.MaxResult)
	case string(data) == "null":
		return nil, nil
	}
	return data, nil
}

// limit makes valid UTF-8 of at most n bytes, with a sign where it was cut.
func limit(s string, n int) string {
	if len(s) > n {
		s = s[:n-len("…")] + "…"
	}
	return strings.ToValidUTF8(s, "")
}
