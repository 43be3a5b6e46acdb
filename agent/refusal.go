package agent

import (
	"fmt"
	"strings"

	"github.com/MatthiasWiesner/tasker"
)

// refusal returns why the handlers cannot perform an assignment; "" if they can.
func refusal(hs Handlers, o tasker.Order) string {
	as := o.Assignment
	if o.Version > tasker.MaxWireVersion {
		return tooNew(o)
	}
	if err := tasker.ValidateTaskType(o.Type); err != nil {
		return err.Error()
	}
	if len(as.Payload) > tasker.MaxPayload {
		return fmt.Sprintf("the payload has %d bytes; at most %d are allowed", len(as.Payload), tasker.MaxPayload)
	}
	if as.Action == tasker.Undo && !isValidID(as.Undoes, 1) {
		return fmt.Sprintf("task id %q to undo is not valid", as.Undoes)
	}
	return unsupported(hs, as.Handler, as.Action, as.Payload)
}

// unsupported returns why no handler supports an action with a payload; "" if one
// does. Every handler supports tasker.DryRun: the performer skips those without a dry
// run.
func unsupported(hs Handlers, handler string, action tasker.Action, payload []byte) string {
	h, ok := hs.Lookup(handler)
	switch {
	case !ok:
		return fmt.Sprintf("handler %q is not configured on this agent (it has %s)", handler, strings.Join(hs.Names(), ", "))
	case action != tasker.Perform && action != tasker.DryRun && action != tasker.Undo:
		return fmt.Sprintf("the action %q is not known to this agent: update the agent", action)
	case action == tasker.Undo && !h.Info().CanUndo:
		return fmt.Sprintf("handler %q cannot undo", handler)
	}
	if len(payload) == 0 {
		payload = []byte("{}")
	}
	if err := hs.Validate(handler, payload); err != nil {
		return "bad payload: " + err.Error()
	}
	return ""
}

func tooNew(o tasker.Order) string {
	return fmt.Sprintf("the message has version %d, this agent reads up to %d: update the agent", o.Version, tasker.MaxWireVersion)
}

// isValidID reports whether a task id and an attempt are valid. The id becomes part of
// paths and of environment variables.
func isValidID(id string, attempt int) bool {
	return id != "" && len(id) <= 128 && attempt > 0 && id != "." && id != ".." &&
		!strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' })
}
