package describe

import (
	"fmt"
	"strings"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/terminal"
)

// callbackTarget returns the URL of a callback, with its events unless it has all.
func callbackTarget(c tasker.Callback) string {
	if len(c.Events) == len(tasker.CallbackEvents()) {
		return c.URL
	}
	var events []string
	for _, e := range c.Events {
		events = append(events, string(e))
	}
	return fmt.Sprintf("%s (%s)", c.URL, strings.Join(events, ", "))
}

// Delivery returns the delivery of an event in one line.
func Delivery(d tasker.Delivery) string {
	var s string
	switch attempts := Plural(d.Attempts, "attempt"); {
	case d.Status == tasker.DeliveryDelivered:
		s = fmt.Sprintf("delivered at the %s attempt", Ordinal(d.Attempts))
	case d.Status == tasker.DeliveryGivenUp:
		s = "given up after " + attempts + lastError(d)
	case d.Attempts == 0:
		s = "waiting for its 1st attempt"
	default:
		s = "waiting after " + attempts + lastError(d)
		if d.NextAttemptAt != nil {
			s += "; next at " + d.NextAttemptAt.Local().Format(time.TimeOnly)
		}
	}
	return fmt.Sprintf("%s  %-10s  %s", Time(d.At), d.Event, s)
}

// lastError returns the error of the last failed attempt, if there is one.
func lastError(d tasker.Delivery) string {
	if d.LastError == "" {
		return ""
	}
	return ": " + terminal.OneLine(d.LastError)
}
