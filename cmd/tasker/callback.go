package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker"
)

// requested is the callback that the flags ask for; nil is none. Whether it may be
// called the control plane says.
func (f createFlags) requested(cmd *cobra.Command) (*tasker.Callback, error) {
	some := cmd.Flags().Changed("callback-events")
	switch {
	case !cmd.Flags().Changed("callback") && some:
		return nil, usage("--callback-events says when a URL is called: name it with --callback")
	case !cmd.Flags().Changed("callback"):
		return nil, nil //nolint:nilnil // nobody is told
	}
	c := &tasker.Callback{URL: f.callback}
	if some {
		c.Events = []tasker.CallbackEvent{} // none is not the same as all
	}
	for _, e := range f.callbackEvents {
		c.Events = append(c.Events, tasker.CallbackEvent(strings.TrimSpace(e)))
	}
	return c, nil
}

// told is who is told what becomes of a task, and of what, if not of everything.
func told(c tasker.Callback) string {
	if len(c.Events) == len(tasker.CallbackEvents()) {
		return c.URL
	}
	var events []string
	for _, e := range c.Events {
		events = append(events, string(e))
	}
	return fmt.Sprintf("%s (%s)", c.URL, strings.Join(events, ", "))
}

// delivery is an event and what became of telling it, in one line.
func delivery(d tasker.Delivery) string {
	var s string
	switch attempts := plural(d.Attempts, "attempt"); {
	case d.Status == tasker.DeliveryDelivered:
		s = fmt.Sprintf("delivered at the %s attempt", ordinal(d.Attempts))
	case d.Status == tasker.DeliveryGivenUp:
		s = "given up after " + attempts + failing(d)
	case d.Attempts == 0:
		s = "waiting for its 1st attempt"
	default:
		s = "waiting after " + attempts + failing(d)
		if d.NextAttemptAt != nil {
			s += "; next at " + d.NextAttemptAt.Local().Format(time.TimeOnly)
		}
	}
	return fmt.Sprintf("%s  %-10s  %s", clock(d.At), d.Event, s)
}

// failing is why the last attempt that failed did; empty if none has.
func failing(d tasker.Delivery) string {
	if d.LastError == "" {
		return ""
	}
	return ": " + plain(d.LastError)
}
