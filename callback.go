package tasker

import (
	"slices"
	"time"
)

// Callback asks that a URL is called when something becomes of a task.
type Callback struct {
	URL string `json:"url"`
	// Events are those that it is called for, in the order of CallbackEvents.
	Events []CallbackEvent `json:"events"`
}

// CallbackEvent is what becomes of a task, once each time that it does.
type CallbackEvent string

// The events.
const (
	// CallbackFinished: every response has ended, or the status of a task that had
	// finished is another one by a late report.
	CallbackFinished CallbackEvent = "finished"
	// CallbackIncomplete: an endpoint is known not to have received the task.
	CallbackIncomplete CallbackEvent = "incomplete"
	// CallbackPaused: the rollout has paused.
	CallbackPaused CallbackEvent = "paused"
)

// CallbackEvents lists every event.
func CallbackEvents() []CallbackEvent {
	return []CallbackEvent{CallbackFinished, CallbackIncomplete, CallbackPaused}
}

// For says whether it is called for an event. A nil Callback is called for none.
func (c *Callback) For(e CallbackEvent) bool { return c != nil && slices.Contains(c.Events, e) }

// DeliveryStatus is where the delivery of an event stands.
type DeliveryStatus string

// The statuses of a delivery.
const (
	DeliveryWaiting   DeliveryStatus = "waiting"
	DeliveryDelivered DeliveryStatus = "delivered"
	DeliveryGivenUp   DeliveryStatus = "given_up"
)

// DeliveryStatuses lists every status of a delivery.
func DeliveryStatuses() []DeliveryStatus {
	return []DeliveryStatus{DeliveryWaiting, DeliveryDelivered, DeliveryGivenUp}
}

// Delivery is an event of a task and what became of telling it.
type Delivery struct {
	// ID is what the receiver knows it by, a UUIDv7.
	ID     string         `json:"id"`
	Event  CallbackEvent  `json:"event"`
	At     time.Time      `json:"at"`
	Status DeliveryStatus `json:"status"`
	// Attempts is how often the URL was called, one that is under way included.
	Attempts      int        `json:"attempts"`
	NextAttemptAt *time.Time `json:"next_attempt_at,omitempty"`
	DeliveredAt   *time.Time `json:"delivered_at,omitempty"`
	// LastError says for a person why the last attempt that failed did.
	LastError string `json:"last_error,omitempty"`
}
