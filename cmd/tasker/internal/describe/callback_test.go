package describe

import (
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
)

func TestDelivery(t *testing.T) {
	t.Parallel()
	next := at(60_000).Local().Format(time.TimeOnly)
	for want, d := range map[string]tasker.Delivery{
		"finished    waiting for its 1st attempt":              {Status: tasker.DeliveryWaiting, NextAttemptAt: at(0)},
		"finished    waiting after 1 attempt; next at " + next: {Status: tasker.DeliveryWaiting, Attempts: 1, NextAttemptAt: at(60_000)},
		"finished    waiting after 2 attempts: no route; next at " + next: {
			Status: tasker.DeliveryWaiting, Attempts: 2, NextAttemptAt: at(60_000), LastError: "no\nroute",
		},
		"finished    delivered at the 3rd attempt":         {Status: tasker.DeliveryDelivered, Attempts: 3, DeliveredAt: at(0), LastError: "no route"},
		"finished    given up after 34 attempts: no route": {Status: tasker.DeliveryGivenUp, Attempts: 34, LastError: "no route"},
	} {
		d.Event, d.At = tasker.CallbackFinished, *at(0)
		if got := Delivery(d); got != Time(d.At)+"  "+want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
